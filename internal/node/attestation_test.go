package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func newServiceKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// plain is a client of plain HTTPS that trusts the node's authority alone.
func (w *world) plain(authority []byte, name string) *http.Client {
	w.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		w.t.Fatal("no authority")
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.address)
		},
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestAuthority: clients that verify TLS the ordinary way reach the node under
// any of its names, and no client under another node's authority.
func TestAuthority(t *testing.T) {
	w := run(t, nil)
	authority, err := w.client(nil).Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "attest.hospital.example", "127.0.0.1"} {
		for range 2 {
			resp, err := w.plain(authority, name).Get("https://" + name + "/certs")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", name, resp.Status)
			}
		}
	}
	other, err := newCertificates(newServiceKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := w.plain(other.pem(), "localhost").Get("https://localhost/certs"); err == nil {
		_ = resp.Body.Close()
		t.Error("a node under another's authority")
	}
}

// TestProviders: owners make providers over the attested channel, and change them
// with access tokens over plain HTTPS.
func TestProviders(t *testing.T) {
	w := run(t, nil)
	alice, bob := w.client(identity(t)), w.client(identity(t))
	made, err := alice.CreateProvider(t.Context(), maa.Settings{Name: "hospital"})
	if err != nil || made.Path != "/azure/hospital" {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = bob.CreateProvider(t.Context(), maa.Settings{Name: "hospital"})
	wantCode(t, err, 409, "exists")
	_, err = bob.Provider(t.Context(), "hospital")
	wantCode(t, err, 404, "not_found")
	_, err = bob.CreateProvider(t.Context(), maa.Settings{Name: "A"})
	wantCode(t, err, 400, "invalid")
	wantCode(t, bob.DeleteProvider(t.Context(), "hospital"), 404, "not_found")
	_, err = w.client(nil).Providers(t.Context())
	wantCode(t, err, 401, "no_identity")
	_, err = w.client(nil).AccessToken(t.Context())
	wantCode(t, err, 401, "no_identity")
	if rotated, err := alice.RotateProvider(t.Context(), "hospital"); err != nil || len(rotated.Keys) != 2 {
		t.Errorf("%+v, %v", rotated, err)
	}
	authority, err := alice.Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, errA := alice.AccessToken(t.Context())
	b, errB := bob.AccessToken(t.Context())
	if err := errors.Join(errA, errB); err != nil || time.Until(a.Expires) > time.Hour {
		t.Fatal(a.Expires, err)
	}
	set := func(token string) int {
		const policy = "eyJhbGciOiJub25lIn0.eyJBdHRlc3RhdGlvblBvbGljeSI6ImRtVnljMmx2YmowZ01TNHdPMkYxZEdodmNtbDZZWFJwYjI1eWRXeGxjeUI3UFQ0Z2NHVnliV2wwS0NrN2ZUdHBjM04xWVc1alpYSjFiR1Z6SUh0OU93In0."
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://localhost/azure/hospital/policies/SgxEnclave?api-version=2025-06-01", strings.NewReader(policy))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := w.plain(authority, "localhost").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	for token, status := range map[string]int{a.Token: 200, b.Token: 403, "": 401, "x": 401, a.Token + "A": 401, a.Token[:len(a.Token)-2]: 401} {
		if got := set(token); got != status {
			t.Errorf("%.30q: %d, want %d", token, got, status)
		}
	}
	if err := alice.DeleteProvider(t.Context(), "hospital"); err != nil {
		t.Error(err)
	}
}

// TestAccessTokensEnd, and no change of one is another.
func TestAccessTokensEnd(t *testing.T) {
	a, err := newAccess(newServiceKey(t))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	a.now = func() time.Time { return now }
	owner := bytes.Repeat([]byte{7}, 32)
	token, ends := a.give(owner)
	if got := a.owner(token); !bytes.Equal(got, owner) || !ends.Equal(now.Add(time.Hour)) {
		t.Fatalf("%x until %v", got, ends)
	}
	for i := range len(token) {
		b := []byte(token)
		b[i] ^= 1
		if got := a.owner(string(b)); got != nil {
			t.Errorf("with byte %d changed: %x", i, got)
		}
	}
	other, err := newAccess(newServiceKey(t))
	if err != nil || other.owner(token) != nil {
		t.Errorf("another node takes the token: %v", err)
	}
	now = ends
	if a.owner(token) != nil {
		t.Error("a token that has ended")
	}
}

// TestCollateralFromTheHost: evidence is refused until the host has brought what
// its vendor publishes; what the host brings is checked like anything else.
func TestCollateralFromTheHost(t *testing.T) {
	intel := dcaptest.New(t)
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	w := run(t, nil)
	host := w.service.hostRoutes()
	ask := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://node"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		host.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	if in := w.service.input(ev); len(in.Endorsements.Collateral) != 0 {
		t.Errorf("collateral from nowhere: %v", in)
	}
	status, body := ask(http.MethodGet, "/collateral/wanted", "")
	var wanted []collateral.Platform
	if err := json.Unmarshal([]byte(body), &wanted); err != nil || status != 200 || len(wanted) != 1 || wanted[0].TEE != tee.SGX {
		t.Errorf("%d %s", status, body)
	}
	e := intel.Endorsements(t, dcaptest.CollateralOptions{})
	for _, bad := range []string{"", "{}", "nonsense", `[{"kind":"x"}]`, `[{"kind":"intel-root-crl","name":"root","data":"AAAA"}]`} {
		if status, body := ask(http.MethodPut, "/collateral", bad); status != http.StatusBadRequest {
			t.Errorf("%q: %d %s", bad, status, body)
		}
	}
	digest := sha256.Sum256(e.CRLs[0])
	crl, err := x509.ParseRevocationList(e.CRLs[0])
	if err != nil {
		t.Fatal(err)
	}
	item, err := json.Marshal([]collateral.Item{{Kind: collateral.IntelRootCRL, Name: "root", Digest: hex.EncodeToString(digest[:]), Data: e.CRLs[0], IssuedAt: crl.ThisUpdate.UTC(), NextUpdate: crl.NextUpdate.UTC()}})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := ask(http.MethodPut, "/collateral", string(item)); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	if in := w.service.input(ev); len(in.Endorsements.CRLs) != 1 {
		t.Errorf("%d lists", len(in.Endorsements.CRLs))
	}
}

// TestHostIsHeard over a connection, until the node ends.
func TestHostIsHeard(t *testing.T) {
	w := run(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.service.serveHost(ctx, l, slog.New(slog.DiscardHandler)) }()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String() + "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestProvidersSurviveRestarts, and their log is not taken from another time.
func TestProvidersSurviveRestarts(t *testing.T) {
	p := softwaretest.New(t)
	t.Setenv(call.EnvState, t.TempDir())
	doc := launch.NewBuiltin(launch.RoleNode)
	s, err := again(t, p, doc)
	if err != nil {
		t.Fatal(err)
	}
	owner := bytes.Repeat([]byte{1}, 32)
	made, err := s.providers.Create(owner, maa.Settings{Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	authority := s.certificates.authority
	s.close()
	if s, err = again(t, p, doc); err != nil {
		t.Fatal(err)
	}
	after, err := s.providers.Get(owner, "mine")
	if err != nil || after.Keys[0] != made.Keys[0] {
		t.Errorf("%+v, %v", after, err)
	}
	// Who trusts the authority from before the restart trusts the node still.
	leaf, err := s.certificates.issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
}

// TestGuests: guests of Confidential Containers get a nonce, and no token for what
// does not verify.
func TestGuests(t *testing.T) {
	w := run(t, nil)
	authority, err := w.client(nil).Authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	post := func(path, body string) (int, string) {
		resp, err := w.plain(authority, "localhost").Post("https://localhost"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, body := post("/kbs/v0/auth", `{"version":"0.4.0","tee":"snp","extra-params":""}`)
	var challenge struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(body), &challenge); err != nil || status != http.StatusOK || len(challenge.Nonce) != 44 {
		t.Fatalf("%d %s", status, body)
	}
	for path, request := range map[string]string{
		"/kbs/v0/auth":   `{"version":"0.4.0","tee":"sample","extra-params":""}`,
		"/kbs/v0/attest": `{}`,
	} {
		if status, body := post(path, request); status != http.StatusUnauthorized || !strings.Contains(body, "AttestationError") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
