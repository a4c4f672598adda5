// Keeps a page current: the server says that something changed, and the parts of
// the page that are marked data-live are taken from a new copy of it. Everything
// works without this script; one only has to reload by hand.
"use strict";
(() => {
  const follow = document.body.dataset.follow;
  const poll = Number(document.body.dataset.poll || 0);
  const sign = document.getElementById("live-sign");
  const announce = document.getElementById("announce");

  const login = document.querySelector("form[data-submit]");
  if (login) login.requestSubmit();

  const faults = document.querySelector("[data-focus]");
  if (faults) faults.focus();

  const tail = () => {
    const log = document.querySelector("[data-tail] .log");
    if (log) log.scrollTop = log.scrollHeight;
  };
  tail();
  if (!follow) return;

  const say = (live) => {
    if (!sign) return;
    sign.hidden = false;
    sign.classList.toggle("lost", !live);
    sign.textContent = live ? "live" : "not live: reload to see changes";
  };

  // replace puts the new content of one part in place, and keeps what a person
  // did to the old one: where the focus is, what is open, how far it is scrolled.
  const replace = (old, fresh) => {
    if (old.innerHTML === fresh.innerHTML) return;
    const links = (root) => [...root.querySelectorAll("a, button, summary, [tabindex]")];
    const focused = links(old).indexOf(document.activeElement);
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    const log = old.querySelector(".log");
    const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    const top = log ? log.scrollTop : 0;
    old.replaceChildren(...fresh.childNodes);
    old.querySelectorAll("details").forEach((d, n) => { if (n < open.length) d.open = open[n]; });
    const next = old.querySelector(".log");
    if (next) next.scrollTop = atEnd ? next.scrollHeight : top;
    const target = focused >= 0 ? links(old)[focused] : null;
    if (target) target.focus({ preventScroll: true });
  };

  let busy = false;
  let again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (answer.status === 401 || answer.status === 404) { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live][id]")) {
        const fresh = page.getElementById(old.id);
        if (fresh) replace(old, fresh);
      }
    } catch {
      // The stream says when the server is away.
    } finally {
      busy = false;
      if (again) { again = false; later(); }
    }
  };

  let waiting = 0;
  const later = () => {
    if (waiting) return;
    waiting = setTimeout(() => { waiting = 0; refresh(); }, 250);
  };

  const stream = new EventSource("/live");
  let wasLost = false;
  stream.addEventListener("open", () => { say(true); if (wasLost) later(); wasLost = false; });
  stream.addEventListener("error", () => { say(false); wasLost = true; });
  stream.addEventListener("change", (e) => {
    let change;
    try { change = JSON.parse(e.data); } catch { return; }
    if (change.id !== "" && follow !== "*" && change.id !== follow) return;
    if (announce && change.text) announce.textContent = change.text;
    later();
  });
  addEventListener("pagehide", () => stream.close());
  if (poll) setInterval(() => { if (!document.hidden) refresh(); }, poll);
})();
