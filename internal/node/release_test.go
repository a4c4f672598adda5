package node

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestRelease(t *testing.T) {
	w, _ := newWorld(t)
	owner := w.client(identity(t))
	in := w.workload()
	only := policy(t, func(p *keys.Policy) {
		p.Appraisal.Measurements = []string{in.Info().Measurement.String()}
	})
	material := []byte("material of the key")
	if _, err := owner.PutKey(t.Context(), client.PutKey{Name: "app/key", Material: material, Policy: only}); err != nil {
		t.Fatal(err)
	}
	code := w.client(nil) // an instance needs no identity: its evidence is one
	req, private := w.ask(in, "app/key")
	got, err := code.Release(t.Context(), req)
	if err != nil || len(got.Keys) != 1 || got.LeaseSeconds != 60 || !slices.Equal(got.Receipts, []uint64{2}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if key, err := keys.Unwrap(private, req.Nonce, got.Keys[0]); err != nil || !bytes.Equal(key, material) {
		t.Errorf("unwrapped %q, %v", key, err)
	}
	// The result that comes with it is signed with the key that the node names.
	v, err := code.TokenVerifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.AllowNoAudience, v.AllowSimulated, v.AllowAnyPolicy = true, true, true
	if res, err := v.Verify(got.Token, time.Now()); err != nil || res.Issuer != v.Issuer {
		t.Errorf("%+v, %v", res, err)
	}

	_, err = code.Release(t.Context(), req) // the same request again
	wantCode(t, err, http.StatusForbidden, "nonce")

	req, _ = w.ask(in, "app/key")
	req.Renew = true
	if got, err := code.Release(t.Context(), req); err != nil || len(got.Keys) != 0 || got.LeaseSeconds != 60 {
		t.Errorf("renewed: %+v, %v", got, err)
	}
}

func TestReleaseRefuses(t *testing.T) {
	w, log := newWorld(t)
	owner := w.client(identity(t))
	in := w.workload()
	for name, change := range map[string]func(*keys.Policy){
		"app/key":   nil,
		"app/other": func(p *keys.Policy) { p.Appraisal.Measurements = []string{tee.Measurement(make([]byte, 32)).String()} },
	} {
		if _, err := owner.PutKey(t.Context(), client.PutKey{Name: name, Policy: policy(t, change)}); err != nil {
			t.Fatal(err)
		}
	}
	before := len(log.Entries())
	other := softwaretest.New(t)
	image := []byte("module")
	elsewhere := other.Instance(t, launch.New(launch.Wasm, image), image, nil)
	t.Cleanup(func() { _ = elsewhere.Close() })
	cases := []struct {
		name   string
		keys   []string
		change func(*keys.ReleaseRequest)
		status int
		code   string
	}{
		{"no such key", []string{"app/none"}, nil, 404, "not_found"},
		{"policy", []string{"app/other"}, nil, 403, "refused"},
		{"all or none", []string{"app/key", "app/other"}, nil, 403, "refused"},
		{"invented nonce", []string{"app/key"}, func(r *keys.ReleaseRequest) { r.Nonce = make([]byte, keys.NonceSize) }, 403, "nonce"},
		{"no nonce", []string{"app/key"}, func(r *keys.ReleaseRequest) { r.Nonce = nil }, 403, "nonce"},
		{"another public key", []string{"app/key"}, func(r *keys.ReleaseRequest) { r.PublicKey[0] ^= 1 }, 403, "not_verified"},
		{"altered evidence", []string{"app/key"}, func(r *keys.ReleaseRequest) { r.Evidence.Data[len(r.Evidence.Data)-1] ^= 1 }, 403, "not_verified"},
		{"another kind of evidence", []string{"app/key"}, func(r *keys.ReleaseRequest) { r.Evidence.Kind = tee.SNP }, 403, "not_verified"},
		{"another simulated platform", []string{"app/key"}, func(r *keys.ReleaseRequest) {
			info := elsewhere.Info()
			ev, err := elsewhere.Evidence(t.Context(), keys.ReleaseBinding(r.Nonce, r.PublicKey, info.LaunchDigest[:], info.InstanceID))
			if err != nil {
				t.Fatal(err)
			}
			r.Evidence = ev
		}, 403, "not_verified"},
		{"too many keys", slices.Repeat([]string{"app/key"}, keys.MaxReleaseKeys+1), nil, 400, "invalid"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, _ := w.ask(in, c.keys...)
			if c.change != nil {
				c.change(&req)
			}
			got, err := w.client(nil).Release(t.Context(), req)
			p := wantCode(t, err, c.status, c.code)
			if (c.code == "refused" || c.code == "not_verified") && len(p.Failures) == 0 {
				t.Error("the refusal does not say what failed")
			}
			if len(got.Keys) != 0 || got.Token != "" {
				t.Errorf("something is released: %+v", got)
			}
		})
	}
	if n := len(log.Entries()); n != before {
		t.Errorf("%d receipts of refusals", n-before)
	}
}

func TestAttest(t *testing.T) {
	w, _ := newWorld(t)
	in, n := w.workload(), w.client(nil)
	development, err := json.Marshal(attest.Development())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(change func(*client.AttestRequest)) (string, error) {
		t.Helper()
		nonce, err := n.Nonce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req := client.AttestRequest{Nonce: nonce, UserData: []byte("user data"), Policy: development}
		if req.Evidence, err = in.Evidence(t.Context(), tee.Bind(client.AttestContext, nonce, req.UserData)); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&req)
		}
		return n.Attest(t.Context(), req)
	}
	token, err := ask(nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := n.TokenVerifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.AllowNoAudience, v.AllowSimulated, v.Policies = true, true, [][32]byte{attest.Development().Digest()}
	if _, err := v.Verify(token, time.Now()); err != nil {
		t.Errorf("the node's own result: %v", err)
	}
	nonce, err := n.Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := in.Evidence(t.Context(), tee.Bind(client.AttestContext, nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	message, err := cmw.FromEvidence(ev)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := message.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	cwt, err := n.AttestCWT(t.Context(), client.AttestRequest{Nonce: nonce, Message: wrapped, Policy: development})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := v.VerifyCWT(cwt, time.Now()); err != nil || r.TEE != tee.Software {
		t.Errorf("the node's own result as a CWT: %+v, %v", r, err)
	}

	var used []byte
	for _, c := range []struct {
		name   string
		change func(*client.AttestRequest)
		status int
		code   string
	}{
		{"other user data", func(r *client.AttestRequest) { r.UserData = []byte("another"); used = r.Nonce }, 403, "not_verified"},
		{"used nonce", func(r *client.AttestRequest) { r.Nonce = used }, 403, "nonce"},
		{"no policy", func(r *client.AttestRequest) { r.Policy = nil }, 400, "invalid"},
		{"malformed policy", func(r *client.AttestRequest) { r.Policy = json.RawMessage(`{"accept":"all"}`) }, 400, "invalid"},
		{"policy that accepts nothing", func(r *client.AttestRequest) { r.Policy = json.RawMessage(`{}`) }, 400, "invalid"},
		{"policy that refuses", func(r *client.AttestRequest) {
			p := attest.Development()
			p.AllowSimulated = false
			r.Policy, _ = json.Marshal(p)
		}, 403, "refused"},
		{"junk for a message", func(r *client.AttestRequest) { r.Evidence, r.Message = tee.Evidence{}, []byte("junk") }, 400, "invalid"},
		{"evidence and a message", func(r *client.AttestRequest) { r.Message = wrapped }, 400, "invalid"},
		{"no evidence", func(r *client.AttestRequest) { r.Evidence = tee.Evidence{} }, 403, "not_verified"},
	} {
		token, err := ask(c.change)
		t.Log(c.name)
		wantCode(t, err, c.status, c.code)
		if token != "" {
			t.Errorf("%s: a token is issued", c.name)
		}
	}
}

// A nonce is good for one use, for whatever it is used.
func TestNonceIsUsedOnce(t *testing.T) {
	w, _ := newWorld(t)
	in, n := w.workload(), w.client(nil)
	req, _ := w.ask(in)
	ev, err := in.Evidence(t.Context(), tee.Bind(client.AttestContext, req.Nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	development, err := json.Marshal(attest.Development())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Attest(t.Context(), client.AttestRequest{Nonce: req.Nonce, Evidence: ev, Policy: development}); err != nil {
		t.Fatal(err)
	}
	_, err = n.Release(t.Context(), req)
	wantCode(t, err, http.StatusForbidden, "nonce")
	one, err1 := n.Nonce(t.Context())
	two, err2 := n.Nonce(t.Context())
	if err1 != nil || err2 != nil || len(one) != keys.NonceSize || bytes.Equal(one, two) {
		t.Errorf("%x, %x (%v, %v)", one, two, err1, err2)
	}
}

// The service key is vouched for by the node's own evidence, and the key set is
// that key.
func TestIdentityAndKeySet(t *testing.T) {
	w, _ := newWorld(t)
	n := w.client(nil)
	id, err := n.Identity(t.Context())
	if err != nil || !bytes.Equal(id.Key, w.service.spki) {
		t.Errorf("%x, %v", id.Key, err)
	}
	set, err := n.JWKS(t.Context())
	kid, thumbErr := attest.Thumbprint(w.service.key.Public().(*ecdsa.PublicKey))
	if err != nil || thumbErr != nil || !slices.Equal(set.IDs(), []string{kid}) {
		t.Errorf("key set %v (%v), want %s", set.IDs(), err, kid)
	}
	c := w.caller(nil)
	for _, path := range []string{"/livez", "/v1/identity", "/.well-known/jwks.json"} {
		if status, b := c.do("GET", path, nil); status != http.StatusOK || !json.Valid(b) {
			t.Errorf("GET %s: %d %s", path, status, b)
		}
	}
}
