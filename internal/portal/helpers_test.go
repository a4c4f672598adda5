package portal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module is the smallest image that is one.
const module = "\x00asm\x01\x00\x00\x00 and more"

// fakeHost is a host whose instances are what the test says.
type fakeHost struct {
	mu       sync.Mutex
	list     []compute.Instance
	logs     map[string]Log
	done     []string // what was asked for
	created  *compute.Create
	image    []byte
	err      error // of what is asked for
	evidence func(ctx context.Context, name string, nonce []byte) (tee.Evidence, [64]byte, error)
	roots    tee.Roots
	probes   int
}

func (f *fakeHost) Platform() Platform {
	return Platform{Version: "1.2.3", Address: "127.0.0.1:7443", NodeMeasurement: tee.Measurement{1, 2}, Simulated: true, DataDir: "/data", RootFile: "/data/root.pem", PID: 4711}
}

func (f *fakeHost) Kinds() []tee.Kind { return []tee.Kind{tee.Software, tee.TPM} }

func (f *fakeHost) Capabilities(context.Context) []compute.Capability {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probes++
	return []compute.Capability{
		{TEE: tee.Software, Available: true, Simulated: true, Detail: "a child ran", Walls: []string{"seccomp"}, Missing: []string{"landlock"}},
		{TEE: tee.SNP, Detail: "no device", Hint: "use another machine"},
	}
}

func (f *fakeHost) Instances() []compute.Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

func (f *fakeHost) Instance(name string) (compute.Instance, error) {
	for _, i := range f.Instances() {
		if i.Name == name {
			return i, nil
		}
	}
	return compute.Instance{}, compute.ErrNotFound
}

func (f *fakeHost) Watch(ctx context.Context, changed func(compute.Instance), _ func(string)) {
	for _, i := range f.Instances() {
		changed(i)
	}
	<-ctx.Done()
}

func (f *fakeHost) Create(_ context.Context, c compute.Create) (compute.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.created = &c
	f.image, _ = io.ReadAll(c.Image)
	return compute.Instance{Name: c.Name}, f.err
}

func (f *fakeHost) note(what, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, what+" "+name)
	return f.err
}

func (f *fakeHost) Start(name string) error  { return f.note("start", name) }
func (f *fakeHost) Stop(name string) error   { return f.note("stop", name) }
func (f *fakeHost) Delete(name string) error { return f.note("delete", name) }

func (f *fakeHost) Log(name string) (Log, error) { return f.logs[name], nil }

func (f *fakeHost) Evidence(ctx context.Context, name string, nonce []byte) (tee.Evidence, [64]byte, error) {
	if f.evidence == nil {
		return tee.Evidence{}, [64]byte{}, errors.New("no evidence here")
	}
	return f.evidence(ctx, name, nonce)
}

func (f *fakeHost) Trust(context.Context, tee.Evidence) tee.Input { return tee.Input{Roots: f.roots} }

// clock is a clock that the test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lab is a portal with a browser that is signed in.
type lab struct {
	t       testing.TB
	host    *fakeHost
	clock   *clock
	portal  *Portal
	handler http.Handler
	session string
}

// worker is an instance in a state.
func worker(state compute.State) compute.Instance {
	d := launch.New(launch.Wasm, []byte(module))
	return compute.Instance{
		ID: "0123456789abcdef", Name: "worker", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Simulated: true,
		Spec: compute.Spec{TEE: tee.Software, Launch: d}, Expected: tee.Measurement(bytes.Repeat([]byte{7}, 32)), Status: compute.Status{State: state, Epoch: 1},
	}
}

func newLab(t testing.TB, list ...compute.Instance) *lab {
	t.Helper()
	l := &lab{t: t, host: &fakeHost{list: list, logs: map[string]Log{}}, clock: &clock{now: time.Now().UTC()}}
	var err error
	l.portal, err = New(Config{Host: l.host, Verifier: attest.NewVerifier(software.New()), Address: "127.0.0.1:7480", Now: l.clock.time})
	if err != nil {
		t.Fatal(err)
	}
	l.handler = l.portal.Handler()
	l.session = l.signIn()
	return l
}

// run runs the portal until the test ends.
func (l *lab) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.portal.Run(ctx) })
	l.t.Cleanup(func() { cancel(); wg.Wait() })
}

// signIn spends a fresh login address and returns the session's cookie.
func (l *lab) signIn() string {
	l.t.Helper()
	address, _ := l.portal.Login()
	w := l.post("/login", url.Values{"token": {tokenOf(l.t, address)}})
	for _, c := range w.Result().Cookies() {
		if c.Name == cookieName {
			return c.Value
		}
	}
	l.t.Fatalf("signing in: %d %s", w.Code, w.Body)
	return ""
}

func tokenOf(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("token")
}

// request is one of the signed-in browser's.
func (l *lab) request(method, path, contentType string, body io.Reader) *http.Request {
	r := httptest.NewRequestWithContext(l.t.Context(), method, "http://127.0.0.1:7480"+path, body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if l.session != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: l.session})
	}
	return r
}

func (l *lab) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, r)
	return w
}

func (l *lab) get(path string) *httptest.ResponseRecorder {
	return l.do(l.request(http.MethodGet, path, "", nil))
}

func (l *lab) post(path string, form url.Values) *httptest.ResponseRecorder {
	return l.do(l.request(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode())))
}

// page gets a page that must be there, and checks what holds for all of them.
func (l *lab) page(path string) string {
	l.t.Helper()
	w := l.get(path)
	if w.Code != http.StatusOK {
		l.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	checkPage(l.t, path, w.Body.String())
	return w.Body.String()
}

// checkPage holds a page to what every page promises.
func checkPage(t testing.TB, path, html string) {
	t.Helper()
	for _, want := range []string{`<html lang="en"`, "<main id=\"content\"", "<h1", `href="#content"`, "</html>", `role="status" aria-live="polite"`} {
		if !strings.Contains(html, want) {
			t.Errorf("%s: has no %s", path, want)
		}
	}
	for _, never := range []string{"ZgotmplZ", "<no value>", "style=", "<style", "javascript:", "onclick", "http-equiv", "%!"} {
		if strings.Contains(html, never) {
			t.Errorf("%s: has %s", path, never)
		}
	}
	if !strings.Contains(html, "Simulated TEE.") {
		t.Errorf("%s: does not say that it is simulated", path)
	}
}

// create fills in the create form.
func (l *lab) create(fields map[string]string, image []byte) *httptest.ResponseRecorder {
	l.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			l.t.Fatal(err)
		}
	}
	if image != nil {
		f, err := w.CreateFormFile("image", "app.wasm")
		if err == nil {
			_, err = f.Write(image)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	_ = w.Close()
	return l.do(l.request(http.MethodPost, createPath, w.FormDataContentType(), &b))
}

// wants reports what a page lacks.
func wants(t testing.TB, html string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(html, s) {
			t.Errorf("the page does not say %q", s)
		}
	}
}
