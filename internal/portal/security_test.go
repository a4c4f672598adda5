package portal

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func TestHeaders(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/", "/login", "/nothing", "/assets/portal.css", createPath} {
		w := l.get(path)
		for _, h := range headers {
			if got := w.Header().Get(h[0]); got != h[1] {
				t.Errorf("%s: %s is %q", path, h[0], got)
			}
		}
	}
	if policy := l.get("/").Header().Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %s", policy)
	}
}

// Nobody without a session sees or does anything.
func TestNoSession(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	for name, session := range map[string]string{"none": "", "made up": strings.Repeat("A", 43), "empty": " "} {
		l.session = session
		for _, path := range []string{"/", "/instances", "/instances/worker", "/instances/worker/logs", "/instances/worker/evidence", createPath, "/live", "/instances/worker/do/stop", "/nothing"} {
			w := l.get(path)
			if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), worker("").ID) {
				t.Errorf("%s session, %s: %d %s", name, path, w.Code, w.Body)
			}
		}
		for _, path := range []string{"/instances/worker/do/stop", "/instances/worker/do/delete", createPath, "/logout", "/theme", "/proofs"} {
			if w := l.post(path, nil); w.Code != http.StatusUnauthorized {
				t.Errorf("%s session, POST %s: %d", name, path, w.Code)
			}
		}
	}
	if len(l.host.done) > 0 || l.host.created != nil {
		t.Errorf("done without a session: %v", l.host.done)
	}
}

// A login address is good once and not for long, and looking at it spends nothing.
func TestLogin(t *testing.T) {
	l := newLab(t)
	l.session = ""
	address, expires := l.portal.Login()
	if !strings.HasPrefix(address, "http://127.0.0.1:7480/login?token=") || !expires.Equal(l.clock.time().Add(LoginTime)) {
		t.Errorf("%s until %s", address, expires)
	}
	token := tokenOf(t, address)
	if w := l.get("/login?token=" + token); w.Code != http.StatusOK || len(w.Result().Cookies()) > 0 || !strings.Contains(w.Body.String(), token) {
		t.Errorf("the form: %d %s", w.Code, w.Body)
	}
	w := l.post("/login", url.Values{"token": {token}})
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookies) != 1 {
		t.Fatalf("%d, cookies %v", w.Code, cookies)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 || c.Value == token {
		t.Errorf("cookie %v", c)
	}
	late, _ := l.portal.Login()
	l.clock.add(LoginTime)
	for name, token := range map[string]string{"replayed": token, "late": tokenOf(t, late), "made up": strings.Repeat("A", 43), "empty": "", "a session": cookies[0].Value} {
		if w := l.post("/login", url.Values{"token": {token}}); w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) > 0 || !strings.Contains(w.Body.String(), "cloister portal") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	// A token in the address alone is no login.
	fresh, _ := l.portal.Login()
	if w := l.post("/login?token="+tokenOf(t, fresh), nil); w.Code != http.StatusUnauthorized {
		t.Errorf("token in the address: %d", w.Code)
	}
	l.session = cookies[0].Value
	l.page("/")
	l.clock.add(SessionTime)
	if w := l.get("/"); w.Code != http.StatusUnauthorized {
		t.Errorf("after %s: %d", SessionTime, w.Code)
	}
}

func TestLogout(t *testing.T) {
	l := newLab(t)
	l.page("/")
	if w := l.post("/logout", nil); w.Code != http.StatusSeeOther || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("%d %v", w.Code, w.Result().Cookies())
	}
	if w := l.get("/"); w.Code != http.StatusUnauthorized {
		t.Errorf("the session goes on: %d", w.Code)
	}
}

// There is a bound on what is given out, and the newest are good.
func TestTicketsAreBounded(t *testing.T) {
	k := tickets{most: 3, life: time.Hour}
	now := time.Now()
	var all []string
	for range 10 {
		s, _ := k.issue(now)
		all = append(all, s)
	}
	for n, s := range all {
		if good := k.check(s, now); good != (n >= 7) {
			t.Errorf("ticket %d is good: %t", n, good)
		}
	}
	if len(k.list) != 3 || !k.spend(all[8], now) || k.spend(all[8], now) || k.check(all[9], now.Add(time.Hour)) {
		t.Error("bound, spending or expiry")
	}
}

// Another name that leads here is somebody else's.
func TestOtherNames(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	for _, host := range []string{"evil.example", "evil.example:7480", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7:7480", "[fe80::1]", "", "0.0.0.0:7480", "2130706433"} {
		r := l.request(http.MethodGet, "/instances", "", nil)
		r.Host = host
		if w := l.do(r); w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "worker") {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
	for _, host := range []string{"127.0.0.1:7480", "localhost:7480", "LOCALHOST", "[::1]:9000", "127.0.0.2", "localhost:1234"} {
		r := l.request(http.MethodGet, "/instances", "", nil)
		r.Host = host
		if w := l.do(r); w.Code != http.StatusOK {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
}

func TestOtherOrigins(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	for _, h := range []map[string]string{
		{"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:8000"}, {"Origin": "null"},
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8000"},
		{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
	} {
		for _, path := range []string{"/instances/worker/do/delete", "/login", createPath, "/logout"} {
			r := l.request(http.MethodPost, path, "application/x-www-form-urlencoded", nil)
			for k, v := range h {
				r.Header.Set(k, v)
			}
			if w := l.do(r); w.Code != http.StatusForbidden {
				t.Errorf("%v, %s: %d", h, path, w.Code)
			}
		}
	}
	for site, modes := range map[string]map[string]int{
		"cross-site":  {"no-cors": 403, "cors": 403, "navigate": 200},
		"same-site":   {"no-cors": 403, "websocket": 403, "navigate": 200},
		"same-origin": {"cors": 200, "navigate": 200},
		"none":        {"navigate": 200},
	} {
		for mode, want := range modes {
			r := l.request(http.MethodGet, "/instances", "", nil)
			r.Header.Set("Sec-Fetch-Site", site)
			r.Header.Set("Sec-Fetch-Mode", mode)
			if w := l.do(r); w.Code != want {
				t.Errorf("%s %s: %d, want %d", site, mode, w.Code, want)
			}
		}
	}
	if len(l.host.done) > 0 {
		t.Errorf("done: %v", l.host.done)
	}
	r := l.request(http.MethodPost, "/instances/worker/do/stop", "", nil)
	r.Header.Set("Origin", "http://127.0.0.1:7480")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if w := l.do(r); w.Code != http.StatusSeeOther {
		t.Errorf("its own form: %d", w.Code)
	}
}

// endless is a body that never ends.
type endless struct{ head io.Reader }

func (e *endless) Read(b []byte) (int, error) {
	if n, err := e.head.Read(b); n > 0 || err == nil {
		return n, nil
	}
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestBodiesAreBounded(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	for _, path := range []string{"/login", "/theme"} {
		r := l.request(http.MethodPost, path, "application/x-www-form-urlencoded", &endless{strings.NewReader("token=")})
		if w := l.do(r); w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if testing.Short() {
		t.Skip("writes 257 MiB to a temporary file; not in -short")
	}
	t.Setenv("TMPDIR", t.TempDir())
	head := "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n"
	r := l.request(http.MethodPost, createPath, "multipart/form-data; boundary=b", &endless{strings.NewReader(head)})
	if w := l.do(r); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "larger than 256 MiB") {
		t.Errorf("upload: %d %.200s", w.Code, w.Body)
	}
	if l.host.created != nil {
		t.Error("it was created")
	}
}

// Whatever an instance says stays text.
func TestHostileText(t *testing.T) {
	const attack = "\"><script>alert(1)</script>'onmouseover='x\u202e\x1b[2J\x00 javascript:alert(1)"
	i := everything(compute.Failed)
	i.Name = attack
	i.Status.Code, i.Status.Message, i.Status.Hint = attack, attack, attack
	i.Status.Failures = []tee.Failure{{Code: attack, Claim: attack, Want: attack, Got: attack, Hint: attack}}
	i.Status.Differences = i.Status.Failures
	d := &i.Spec.Launch
	d.Args, d.Env, d.OperatorEnv, d.Inputs, d.Outputs = []string{attack}, map[string]string{attack: attack}, []string{attack}, []string{attack}, []string{attack}
	d.Secrets, d.Logs, d.Role, d.Image.Kind = []launch.Secret{{Name: attack, Key: attack}}, attack, attack, attack
	i.Spec.TEE, i.Spec.Restart, i.Status.State = attack, attack, attack
	i.ExpectedRegisters = map[string]string{attack: attack}
	l := newLab(t, i)
	l.host.logs[attack] = Log{Lines: []LogLine{{Stream: attack, Text: attack}}}
	l.portal.journal.changed(i)
	name := url.PathEscape(attack)
	for _, path := range []string{"/", "/instances", "/instances/" + name, "/instances/" + name + "/evidence", "/instances/" + name + "/host", "/instances/" + name + "/logs", "/instances/" + name + "/launch", "/instances/" + name + "/events", "/instances/" + name + "/do/stop"} {
		html := l.get(path)
		if html.Code != http.StatusOK {
			t.Fatalf("%s: %d", path, html.Code)
		}
		b := html.Body.String()
		if n := strings.Count(b, "<script"); n != 1 {
			t.Errorf("%s: %d scripts", path, n)
		}
		for _, never := range []string{"<script>alert", "\u202e", "\x1b", "\x00", "'onmouseover", "href=\"javascript"} {
			if strings.Contains(b, never) {
				t.Errorf("%s: has %q", path, never)
			}
		}
	}
	if text := (event{Name: attack, State: attack, Code: attack}).sentence(); strings.ContainsAny(text, "\x1b\x00\u202e") {
		t.Errorf("said aloud: %q", text)
	}
}

// Login tokens and sessions are shown nowhere, and kept only as digests.
func TestSecretsStayOutOfPages(t *testing.T) {
	l := newLab(t, worker(compute.Running))
	address, _ := l.portal.Login()
	for _, path := range []string{"/", "/instances", "/instances/worker", "/instances/worker/launch"} {
		if b := l.page(path); strings.Contains(b, l.session) || strings.Contains(b, tokenOf(t, address)) {
			t.Errorf("%s shows a secret", path)
		}
	}
	if s := fmt.Sprintf("%+v %+v", l.portal.sessions.list, l.portal.logins.list); strings.Contains(s, l.session) || strings.Contains(s, tokenOf(t, address)) {
		t.Error("a secret is kept")
	}
}
