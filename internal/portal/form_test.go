package portal

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// filled is a form that is right.
func filled() map[string]string {
	return map[string]string{
		"name": "worker", "tee": "software", "args": "--year\r\n2026\r\n\r\ntwo words", "memory": "64", "secrets": "data-key=hospital-a/records\r\nb=c", "ports": "8443, 9000",
		"logs": "stderr", "restart": "never", "debug": "yes", "start": "yes",
	}
}

func TestCreate(t *testing.T) {
	l := newLab(t)
	w := l.create(filled(), []byte(module))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/instances/worker" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	c := l.host.created
	want := launch.New(launch.Wasm, []byte(module))
	want.Args, want.MemoryMiB, want.Ports, want.Logs, want.Debug = []string{"--year", "2026", "two words"}, 64, []uint16{8443, 9000}, launch.LogsStderr, true
	want.Secrets = []launch.Secret{{Name: "data-key", Key: "hospital-a/records"}, {Name: "b", Key: "c"}}
	got, err1 := c.Spec.Launch.Digest()
	expect, err2 := want.Digest()
	if err := errors.Join(err1, err2); err != nil || got != expect {
		t.Errorf("launch document %+v, want %+v: %v", c.Spec.Launch, want, err)
	}
	if c.Name != "worker" || !c.Start || c.Spec.TEE != tee.Software || c.Spec.Restart != compute.RestartNever || string(l.host.image) != module {
		t.Errorf("%+v, image %q", c, l.host.image)
	}
	elf := filled()
	elf["start"], elf["debug"] = "", ""
	if w := l.create(elf, []byte("\x7fELF and more")); w.Code != http.StatusSeeOther || l.host.created.Spec.Launch.Image.Kind != launch.ELF || l.host.created.Start || l.host.created.Spec.Launch.Debug {
		t.Errorf("%d %+v", w.Code, l.host.created)
	}
}

// Each mistake is shown beside its field, with what to do, and what was filled in
// stays.
func TestMistakes(t *testing.T) {
	l := newLab(t)
	for field, bad := range map[string][]string{
		"name":    {"", "Upper", "-x", "a b", strings.Repeat("x", 64), "node", "<script>"},
		"tee":     {"", "sev-snp", "<script>"},
		"args":    {strings.Repeat("x\n", launch.MaxItems+1), strings.Repeat("x", launch.MaxString+1)},
		"memory":  {"", "0", "-1", "1.5", "many", "9999999"},
		"secrets": {"data-key", "=x", "x=", "UPPER=x", "a=b=c", "a=b\na=c", "a=<script>"},
		"ports":   {"0", "65536", "http", "80 80", "1;2"},
		"logs":    {"", "some"},
		"restart": {"", "sometimes"},
	} {
		for _, value := range bad {
			form := filled()
			form[field] = value
			w := l.create(form, []byte(module))
			html := w.Body.String()
			if w.Code != http.StatusUnprocessableEntity || !strings.Contains(html, `id="fault-`+field+`"`) || !strings.Contains(html, `aria-describedby="fault-`+field) || !strings.Contains(html, `href="#`+field+`"`) {
				t.Errorf("%s %.30q: %d, not beside the field", field, value, w.Code)
			}
			checkPage(t, field, html)
			if strings.Contains(html, "<script>") || field != "name" && !strings.Contains(html, `value="worker"`) {
				t.Errorf("%s %.30q: shown again wrongly", field, value)
			}
		}
	}
	for name, image := range map[string][]byte{"none": nil, "empty": {}, "text": []byte("#!/bin/sh"), "short": []byte("\x00asm"), "a module of a later version": []byte("\x00asm\x02\x00\x00\x00")} {
		if w := l.create(filled(), image); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `id="fault-image"`) {
			t.Errorf("image %s: %d", name, w.Code)
		}
	}
	if l.host.created != nil {
		t.Error("something was created")
	}
}

// What only the host knows comes back to the form, too.
func TestCreateRefused(t *testing.T) {
	l := newLab(t)
	for text, c := range map[string]struct {
		err    error
		status int
	}{
		"an instance of that name exists": {compute.ErrExists, http.StatusConflict},
		"this host has 1024 instances":    {fmt.Errorf("%w: this host has 1024 instances already", compute.ErrRefused), http.StatusUnprocessableEntity},
		"stop or delete another":          {fmt.Errorf("%w: 2 instances", compute.ErrQuota), http.StatusForbidden},
		"something went wrong":            {errors.New("disk"), http.StatusInternalServerError},
	} {
		l.host.err = c.err
		if w := l.create(filled(), []byte(module)); w.Code != c.status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%v: %d", c.err, w.Code)
		}
	}
	if w := l.post(createPath, url.Values{"name": {"x"}}); w.Code != http.StatusBadRequest {
		t.Errorf("not multipart: %d", w.Code)
	}
}

// FuzzDraft: whatever a form says, it becomes a valid launch document or a fault.
func FuzzDraft(f *testing.F) {
	f.Add("worker", "a\nb", "64", "k=v", "80 81", "all")
	f.Add("", "\x00", "-1", "=\n", "0,,", "")
	f.Fuzz(func(t *testing.T, name, args, memory, secrets, ports, logs string) {
		d := readDraft(url.Values{"name": {name}, "tee": {"software"}, "args": {args}, "memory": {memory}, "secrets": {secrets}, "ports": {ports}, "logs": {logs}, "restart": {"never"}})
		s := d.spec([]tee.Kind{tee.Software})
		if err := s.Launch.Validate(); len(d.Faults) == 0 && err != nil {
			t.Fatalf("no fault, and %v", err)
		}
		for _, field := range slices.Sorted(maps.Keys(d.Faults)) {
			if d.Faults[field].Text == "" || d.Faults[field].Hint == "" {
				t.Fatalf("%s: a fault without words", field)
			}
		}
	})
}

// FuzzVisible: nothing that draws, hides or turns gets through, and what is
// harmless stays as it is.
func FuzzVisible(f *testing.F) {
	f.Add("plain text, réponse 42\n\tnext")
	f.Add("\x1b[31m\u202e\u200b\xff\x00\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		out := Visible(s)
		for _, r := range out {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
				t.Fatalf("%q gives %q, with %U", s, out, r)
			}
		}
		if Visible(out) != out {
			t.Fatalf("%q: not the same when done twice", s)
		}
	})
}

// FuzzQuote: a quoted word is one word, and ends where it began.
func FuzzQuote(f *testing.F) {
	f.Add("it's")
	f.Add("")
	f.Add("a b; $(x)")
	f.Fuzz(func(t *testing.T, s string) {
		if got := unquote(t, quote(s)); got != s {
			t.Fatalf("%q is quoted as %q, which reads %q", s, quote(s), got)
		}
	})
}

// unquote reads one word as a POSIX shell does, of the forms that quote writes.
func unquote(t *testing.T, s string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			inside = !inside
		case inside:
			b.WriteByte(c)
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case strings.IndexByte(" \t\n|&;<>()$`\"*?[#~!{}", c) >= 0:
			t.Fatalf("%q: %q is not quoted", s, c)
		default:
			b.WriteByte(c)
		}
	}
	if inside {
		t.Fatalf("%q does not end", s)
	}
	return b.String()
}

func TestAgo(t *testing.T) {
	l := newLab(t)
	now := l.clock.time()
	for want, n := range map[string]int{"just now": 0, "1 second ago": 1, "59 seconds ago": 59, "1 minute ago": 61, "2 hours ago": 7300, "3 days ago": 3 * 86400} {
		if got := ago(now, now.Add(-secondsOf(n))); got != want {
			t.Errorf("%d s: %s", n, got)
		}
	}
}
