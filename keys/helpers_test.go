package keys_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = bytes.Repeat([]byte{'a'}, 32)
	bob   = bytes.Repeat([]byte{'b'}, 32)
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// world is a key service, its log and clock, and one instance that wants keys.
type world struct {
	*keys.Service
	tee   *attesttest.TEE
	log   *keystest.Log
	clock atomic.Int64 // nanoseconds after start
	issue func(*attest.Verified, [32]byte) (string, error)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	launch := bytes.Repeat([]byte{'l'}, 32)
	w := &world{tee: attesttest.New(tee.Claims{InstanceID: "i-1", LaunchDigest: launch, SVN: 2}), log: &keystest.Log{}}
	w.issue = func(_ *attest.Verified, policy [32]byte) (string, error) {
		return "token under " + hex.EncodeToString(policy[:]), nil
	}
	w.Service = w.restart(t)
	return w
}

// restart returns a service with what the log holds.
func (w *world) restart(t testing.TB) *keys.Service {
	t.Helper()
	s := keys.New(w.config())
	if err := w.log.Open(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) config() keys.Config {
	return keys.Config{
		Verifier: attest.NewVerifier(w.tee), Now: w.now,
		Input: func(tee.Evidence) tee.Input { return tee.Input{Roots: w.tee.Roots()} },
		Issue: func(v *attest.Verified, policy [32]byte) (keys.Token, error) {
			text, err := w.issue(v, policy)
			return keys.Token{Text: text, ID: "id of " + text}, err
		},
	}
}

func (w *world) now() time.Time { return start.Add(time.Duration(w.clock.Load())) }

func (w *world) pass(d time.Duration) { w.clock.Add(int64(d)) }

// policy is a release policy that accepts the fake TEE, changed.
func policy(t testing.TB, change func(*keys.Policy)) []byte {
	t.Helper()
	p := keys.Policy{Appraisal: attest.Development(), LeaseSeconds: 60}
	if change != nil {
		change(&p)
	}
	return must(json.Marshal(p))
}

// imported puts a key with known bytes under a name.
func (w *world) imported(t testing.TB, name string, change func(*keys.Policy)) []byte {
	t.Helper()
	material := []byte("material of " + name)
	if _, err := w.Import(t.Context(), alice, name, bytes.Clone(material), policy(t, change)); err != nil {
		t.Fatal(err)
	}
	return material
}

// asking is a release request with the private key to its answer.
type asking struct {
	keys.ReleaseRequest
	private []byte
}

// ask prepares a request with fresh evidence of w.tee.
func (w *world) ask(t testing.TB, names ...string) asking {
	t.Helper()
	nonce := must(w.Nonce())
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	a := asking{keys.ReleaseRequest{Nonce: nonce, PublicKey: recipient.PublicKey(), Keys: names}, private}
	c := w.tee.Claims()
	w.show(t, &a, keys.ReleaseBinding(nonce, a.PublicKey, c.LaunchDigest, c.InstanceID))
	return a
}

// show replaces the evidence of a request.
func (w *world) show(t testing.TB, a *asking, reportData [64]byte) {
	t.Helper()
	a.Evidence = must(w.tee.Evidence(t.Context(), reportData))
}

func (w *world) release(t testing.TB, a asking) (keys.ReleaseResponse, error) {
	t.Helper()
	return w.Release(t.Context(), a.ReleaseRequest)
}

// opened unwraps what was released.
func (a asking) opened(t testing.TB, r keys.ReleaseResponse) []string {
	t.Helper()
	var out []string
	for _, k := range r.Keys {
		out = append(out, string(must(keys.Unwrap(a.private, a.Nonce, k))))
	}
	return out
}

// wantNothing checks that a refusal holds no key, token or receipt.
func wantNothing(t testing.TB, r keys.ReleaseResponse) {
	t.Helper()
	if r.Token != "" || len(r.Keys)+len(r.Receipts) != 0 || r.LeaseSeconds != 0 || !r.Expires.IsZero() {
		t.Errorf("something was released beside an error: %+v", r)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func wantCodes(t testing.TB, err error, codes ...tee.Code) {
	t.Helper()
	if got := attest.Codes(err); err == nil || !slices.Equal(got, codes) {
		t.Errorf("got %v, want codes %v", err, codes)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }
