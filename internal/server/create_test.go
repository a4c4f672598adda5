package server

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
)

// nothingLeft wants no instance, no name taken and no directory.
func nothingLeft(t testing.TB, h *Host) {
	t.Helper()
	if l := h.supervisor.List(); len(l) != 0 {
		t.Errorf("instances are left: %v", l)
	}
	if entries, err := os.ReadDir(h.paths.Instances()); err != nil || len(entries) != 0 {
		t.Errorf("directories are left: %v %v", entries, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	good := parts("worker", spec(), true)
	changed := func(change func(*compute.Spec)) []part {
		sp := spec()
		change(&sp)
		return parts("worker", sp, true)
	}
	with := func(i int, p part) []part {
		c := append([]part(nil), good...)
		c[i] = p
		return c
	}
	cases := []struct {
		name  string
		parts []part
		code  string
	}{
		{"no parts", nil, "bad_request"},
		{"image first", []part{good[1], good[0], good[2], good[3]}, "bad_request"},
		{"create is not JSON", with(0, part{"create", `{"name": CANARY`}), "bad_request"},
		{"create is empty", with(0, part{"create", ""}), "bad_request"},
		{"two JSON values", with(0, part{"create", good[0].content + "{}"}), "bad_request"},
		{"create too large", with(0, part{"create", `{"name":"` + strings.Repeat("x", maxCreate) + `"}`}), "bad_request"},
		{"null", with(0, part{"create", "null"}), "refused_at_admission"},
		{"no image", []part{good[0], good[2], good[3]}, "refused_at_admission"},
		{"image under another name", with(1, part{"CANARY", module}), "refused_at_admission"},
		{"no first input", []part{good[0], good[1], good[3]}, "refused_at_admission"},
		{"no last input", good[:3], "refused_at_admission"},
		{"inputs in another order", []part{good[0], good[1], good[3], good[2]}, "refused_at_admission"},
		{"an input twice", []part{good[0], good[1], good[2], good[2]}, "refused_at_admission"},
		{"a part too many", append(append([]part(nil), good...), part{"input:CANARY", "x"}), "refused_at_admission"},
		{"nothing but create", good[:1], "refused_at_admission"},
		{"no memory", changed(func(s *compute.Spec) { s.Launch.MemoryMiB = 0 }), "refused_at_admission"},
		{"another TEE", changed(func(s *compute.Spec) { s.TEE = tee.SNP }), "refused_at_admission"},
		{"environment not left to the operator", changed(func(s *compute.Spec) { s.Env = map[string]string{"PATH": "CANARY"} }), "refused_at_admission"},
		{"signature of an unsigned launch", changed(func(s *compute.Spec) { s.Signature = []byte("CANARY") }), "refused_at_admission"},
		{"name of a path", parts("../escape", spec(), true), "refused_at_admission"},
		{"the node's name", parts("node", spec(), true), "refused_at_admission"},
		{"input named as a path", changed(func(s *compute.Spec) { s.Launch.Inputs = []string{"../../x"} }), "refused_at_admission"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, _ := newHost(t)
			body, contentType := form(c.parts)
			w := do(t, h, http.MethodPost, "/v1/instances", contentType, body)
			if strings.Contains(w.Body.String(), "CANARY") || strings.Contains(w.Body.String(), "image of the test") {
				t.Errorf("the answer repeats the request: %s", w.Body)
			}
			wantProblem(t, c.name, w, http.StatusBadRequest, c.code)
			nothingLeft(t, h)
			create(t, h, "worker", spec(), false) // the name is free
		})
	}
}

func TestCreateContentType(t *testing.T) {
	body, good := form(parts("worker", spec(), true))
	for name, contentType := range map[string]string{
		"none": "", "JSON": "application/json", "no boundary": "multipart/form-data", "malformed": "multipart/form-data; boundary",
		"another multipart": strings.Replace(good, "form-data", "mixed", 1), "JSON with a boundary": strings.Replace(good, "multipart/form-data", "application/json", 1),
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newHost(t)
			wantProblem(t, name, do(t, h, http.MethodPost, "/v1/instances", contentType, body), http.StatusUnsupportedMediaType, "content_type")
			nothingLeft(t, h)
		})
	}
}

// A client that goes away, wherever that is, leaves nothing.
func TestCreateCutOff(t *testing.T) {
	body, contentType := form(parts("worker", spec(), true))
	h, _ := newHost(t)
	for n := 0; n < len(body)-len("--\r\n"); n += 13 {
		w := do(t, h, http.MethodPost, "/v1/instances", contentType, body[:n])
		if w.Code != http.StatusBadRequest {
			t.Errorf("cut after %d bytes: %d %s", n, w.Code, w.Body)
		}
	}
	nothingLeft(t, h)
}

// failing is a body whose connection breaks.
type failing struct{ io.Reader }

func (f failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestCreateOfABrokenConnection(t *testing.T) {
	body, contentType := form(parts("worker", spec(), true))
	h, _ := newHost(t)
	image := bytes.Index(body, []byte(module))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/instances", failing{bytes.NewReader(body[:image+5])})
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.routes().ServeHTTP(w, r)
	wantProblem(t, "broken connection", w, http.StatusBadRequest, "refused_at_admission")
	nothingLeft(t, h)
}

func TestCreateTakenName(t *testing.T) {
	h, _ := newHost(t)
	create(t, h, "worker", spec(), false)
	body, contentType := form(parts("worker", spec(), true))
	wantProblem(t, "taken", do(t, h, http.MethodPost, "/v1/instances", contentType, body), http.StatusConflict, "exists")
	if entries, err := os.ReadDir(h.paths.Instances()); err != nil || len(entries) != 1 {
		t.Errorf("%d directories (%v), want the first instance's", len(entries), err)
	}
}

// FuzzCreate sends any body: the host does not panic, and whatever it refuses
// leaves nothing behind.
func FuzzCreate(f *testing.F) {
	const boundary = "multipart/form-data; boundary=b"
	add := func(ps []part) {
		body, contentType := form(ps)
		f.Add(contentType, body)
	}
	good := parts("worker", spec(), false)
	add(good)
	add(good[:2])
	add([]part{good[0], good[3]})
	f.Add(boundary, []byte("--b\r\nContent-Disposition: form-data; name=create\r\n\r\n{}\r\n--b--"))
	f.Add(boundary, []byte("--b\r\n\r\n"))
	f.Add("multipart/form-data; boundary=\"\"", []byte{})
	h, _ := newHost(f)
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		w := do(t, h, http.MethodPost, "/v1/instances", contentType, body)
		if w.Code == http.StatusCreated {
			for _, i := range h.supervisor.List() { // no two runs meet
				if err := h.supervisor.Delete(i.Name); err != nil {
					t.Fatal(err)
				}
				_, _ = h.supervisor.Wait(t.Context(), i.Name, func(compute.Instance) bool { return false })
			}
			return
		}
		if w.Code < 400 || w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		nothingLeft(t, h)
	})
}
