package server

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// openPortal serves the portal of a host until the test ends.
func openPortal(t *testing.T, h *Host, cfg PortalConfig) {
	t.Helper()
	h.cfg.Portal = cfg
	h.drivers = []compute.Driver{fakeDriver{}}
	failed := make(chan error, 1)
	end, err := h.servePortal(t.Context(), failed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end()
		if len(failed) > 0 {
			t.Error(<-failed)
		}
	})
}

// signIn spends a login address of the host's API, as a browser would.
func signIn(t *testing.T, h *Host) (*http.Client, string) {
	t.Helper()
	w := do(t, h, http.MethodPost, "/v1/portal/login", "", nil)
	var l client.PortalLogin
	if err := json.Unmarshal(w.Body.Bytes(), &l); w.Code != http.StatusOK || err != nil || w.Header().Get("Cache-Control") != "no-store" || time.Until(l.Expires) <= 0 {
		t.Fatalf("login address: %d %s", w.Code, w.Body)
	}
	u, err := url.Parse(l.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Jar: jar, Transport: transport}
	base := "http://" + u.Host
	resp, err := c.PostForm(base+"/login", u.Query())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		t.Fatalf("signing in leads to %s: %s", resp.Request.URL, resp.Status)
	}
	return c, base
}

// look gets a page.
func look(t *testing.T, c *http.Client, address string) string {
	t.Helper()
	resp, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, resp.Status, err)
	}
	return string(b)
}

func TestPortal(t *testing.T) {
	h, shims := newHost(t)
	var announced client.PortalLogin
	openPortal(t, h, PortalConfig{Address: "127.0.0.1:0", Version: "9.9", Ready: func(l client.PortalLogin, moved bool) {
		if announced = l; moved {
			t.Error("a free port is called another one")
		}
	}})
	h.announcePortal()
	if !strings.HasPrefix(announced.URL, "http://127.0.0.1:") {
		t.Errorf("announced: %+v", announced)
	}
	c, base := signIn(t, h)
	dir := create(t, h, "worker", spec(), true)
	until := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(look(t, c, base+"/instances/worker/events"), text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no event %q: %s", text, look(t, c, base+"/instances/worker/events"))
			}
		}
	}
	until(`fill-running`)
	shims.set(dir, compute.Failed, "refused")
	until(`<code class="code">refused</code>`)
	for _, text := range []string{"worker", "cloister 9.9", "https://127.0.0.1:7443"} {
		if !strings.Contains(look(t, c, base+"/"), text) {
			t.Errorf("the overview does not say %q", text)
		}
	}
	resp, err := c.PostForm(base+"/instances/worker/do/delete", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/instances" {
		t.Errorf("delete leads to %s: %s", resp.Request.URL, resp.Status)
	}
}

func TestNoPortal(t *testing.T) {
	h, _ := newHost(t)
	end, err := h.servePortal(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	h.announcePortal()
	if w := do(t, h, http.MethodPost, "/v1/portal/login", "", nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "no_portal") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPortalAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:7480", "localhost:0", "[::1]:7480", "127.1.2.3:80"} {
		if err := CheckPortalAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "none", "7480", ":7480", "0.0.0.0:7480", "[::]:7480", "192.168.1.1:7480", "example.org:7480"} {
		if CheckPortalAddress(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	h, _ := newHost(t)
	h.cfg.Portal.Address = "0.0.0.0:0"
	if _, err := h.servePortal(t.Context(), nil); !errors.Is(err, ErrPortalAddress) {
		t.Errorf("served everywhere: %v", err)
	}
}

// A port that is taken gives way only if nobody asked for it by name.
func TestPortalPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	h, _ := newHost(t)
	h.cfg.Portal.Address = taken
	if _, err := h.servePortal(t.Context(), nil); err == nil {
		t.Fatal("two on one port")
	}
	moved := false
	openPortal(t, h, PortalConfig{Address: taken, OrFree: true, Ready: func(l client.PortalLogin, m bool) { moved = m && !strings.Contains(l.URL, taken) }})
	h.announcePortal()
	if !moved {
		t.Error("it is not said that the portal has another port")
	}
	signIn(t, h)
}

func TestPortalLog(t *testing.T) {
	h, _ := newHost(t)
	p := portalHost{h}
	dir := create(t, h, "worker", spec(), false)
	if l, err := p.Log("worker"); err != nil || len(l.Lines) > 0 || l.Cut {
		t.Errorf("nothing printed: %+v, %v", l, err)
	}
	var b bytes.Buffer
	for range 3000 {
		line, _ := json.Marshal(shim.LogLine{Stream: "stdout", Text: strings.Repeat("x", 200)})
		b.Write(append(line, '\n'))
	}
	last, _ := json.Marshal(shim.LogLine{Stream: "stderr", Bytes: []byte{0xff, 'y'}})
	b.Write(append(append(last, '\n'), "{torn"...))
	if err := os.WriteFile(dir.Log(), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := p.Log("worker")
	if err != nil || !l.Cut || len(l.Lines) != logTailLines {
		t.Fatalf("%d lines, cut %t: %v", len(l.Lines), l.Cut, err)
	}
	if e := l.Lines[logTailLines-1]; e.Stream != "stderr" || e.Text != "\xffy" {
		t.Errorf("last line %+v", e)
	}
	if _, err := p.Log("nobody"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestPortalEvidence(t *testing.T) {
	h, _ := newHost(t)
	p := portalHost{h}
	dir := create(t, h, "worker", spec(), true)
	reach(t, h, "worker", compute.Running)
	control(t, dir, func(r link.Request, c net.Conn) {
		_ = frame.Write(c, link.Reply{})
		_ = frame.Write(c, tee.Evidence{Kind: tee.Software, Data: r.Data})
	})
	i, err := p.Instance("worker")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := i.Spec.Launch.Digest()
	if err != nil {
		t.Fatal(err)
	}
	nonce := bytes.Repeat([]byte{7}, 32)
	ev, want, err := p.Evidence(t.Context(), "worker", nonce)
	if err != nil || !bytes.Equal(ev.Data, nonce) || want != agent.DescribeBinding(nonce, digest[:], i.ID) {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, _, err := p.Evidence(t.Context(), "nobody", nonce); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	root := softwaretest.New(t).Roots[0]
	for name, text := range map[string][]byte{"none": nil, "no certificate": []byte("-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n")} {
		if h.info.Root = text; len(p.Trust(t.Context(), ev).Roots) > 0 {
			t.Errorf("%s: a root", name)
		}
	}
	h.info.Root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	if in := p.Trust(t.Context(), ev); len(in.Roots) != 1 || !in.Roots[0].Equal(root) {
		t.Errorf("roots %v", in.Roots)
	}
	if in := p.Trust(t.Context(), tee.Evidence{Kind: tee.SNP}); in.Roots != nil {
		t.Error("a development root for hardware")
	}
	h.info.Address = "127.0.0.1:1" // where no node is
	if in := p.Trust(t.Context(), tee.Evidence{Kind: tee.TPM}); in.Roots != nil {
		t.Error("a root for TPMs without a node")
	}
}

func TestPortalCapabilities(t *testing.T) {
	h, _ := newHost(t)
	h.drivers = []compute.Driver{fakeDriver{}}
	p := portalHost{h}
	list := p.Capabilities(t.Context())
	if len(list) != len(tee.Kinds()) {
		t.Errorf("%d TEEs, want each once", len(list))
	}
	if got := p.Kinds(); len(got) != 1 || got[0] != tee.Software {
		t.Errorf("kinds %v", got)
	}
}

// Each instance is followed until it is gone, also one that has the name of an
// earlier one.
func TestPortalWatch(t *testing.T) {
	h, _ := newHost(t)
	h.created = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	ids, gone := map[string]bool{}, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		portalHost{h}.Watch(ctx, func(i compute.Instance) {
			mu.Lock()
			defer mu.Unlock()
			ids[i.ID] = true
		}, func(string) {
			mu.Lock()
			defer mu.Unlock()
			gone++
		})
	}()
	until := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			ok := f()
			mu.Unlock()
			if ok {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	for n := 1; n <= 2; n++ {
		create(t, h, "worker", spec(), true)
		reach(t, h, "worker", compute.Running)
		until("not seen", func() bool { return len(ids) == n })
		if err := h.supervisor.Delete("worker"); err != nil {
			t.Fatal(err)
		}
		until("not gone", func() bool { return gone == n })
	}
	cancel()
	<-done
}
