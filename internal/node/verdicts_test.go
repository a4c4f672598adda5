package node

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/software"
)

// keeper runs a node that keeps records, and returns its archive.
func keeper(t *testing.T, keep string) (*world, string) {
	t.Helper()
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "keep-verdicts"), []byte(keep), 0o600); err != nil {
		t.Fatal(err)
	}
	return runIn(t, state, nil), filepath.Join(state, datadir.VerdictsDir)
}

// tokenIDOf reads the jti of a token.
func tokenIDOf(t *testing.T, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(b, &c); err != nil || c.ID == "" {
		t.Fatalf("%s, %v", b, err)
	}
	return c.ID
}

// replayed reaches every verdict of an archive again, and returns the identifiers
// of the tokens that were issued for them, a hyphen for a refusal.
func replayed(t *testing.T, dir string, v *attest.Verifier) []string {
	t.Helper()
	a, err := record.OpenArchive(dir, record.WithProviders(maa.ReadCase))
	if err != nil {
		t.Fatal(err)
	}
	names, err := a.Names()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, name := range names {
		if got, err := a.Replay(v, name); err != nil || !got.Same {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		r, _, err := a.Record(name)
		if err != nil || r.Accepted != (r.TokenID != "") {
			t.Fatalf("%+v, %v", r, err)
		}
		ids = append(ids, cmp.Or(r.TokenID, "-"))
	}
	return ids
}

func attestOnce(t *testing.T, w *world, in *software.Instance) string {
	t.Helper()
	n := w.client(nil)
	nonce, err := n.Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ev, errEvidence := in.Evidence(t.Context(), tee.Bind(client.AttestContext, nonce, nil))
	policy, errPolicy := json.Marshal(attest.Development())
	if err := errors.Join(errEvidence, errPolicy); err != nil {
		t.Fatal(err)
	}
	token, err := n.Attest(t.Context(), client.AttestRequest{Nonce: nonce, Evidence: ev, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestVerdictsAreKept: what the host wants to be kept is, and leads to the same
// verdict again.
func TestVerdictsAreKept(t *testing.T) {
	for keep, want := range map[string]int{"none": 0, "releases": 1, "all": 2} {
		t.Run(keep, func(t *testing.T) {
			w, dir := keeper(t, keep)
			owner, in := w.client(identity(t)), w.workload()
			for _, name := range []string{"app/one", "app/two"} {
				if _, err := owner.PutKey(t.Context(), client.PutKey{Name: name, Policy: policy(t, nil)}); err != nil {
					t.Fatal(err)
				}
			}
			req, _ := w.ask(in, "app/one", "app/two")
			released, err := w.client(nil).Release(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{tokenIDOf(t, released.Token), tokenIDOf(t, attestOnce(t, w, in))}
			receipts, err := owner.Receipts(t.Context(), 2)
			if err != nil || len(receipts) != 2 || receipts[0].Verdict != receipts[1].Verdict || (receipts[0].Verdict == "") != (want == 0) {
				t.Fatalf("%+v, %v", receipts, err)
			}
			w.stop()
			if want == 0 {
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Error("an archive of nothing:", err)
				}
				return
			}
			got := replayed(t, dir, w.service.verifier)
			slices.Sort(got)
			wanted := slices.Sorted(slices.Values(ids[:want]))
			if !slices.Equal(got, wanted) {
				t.Errorf("records of tokens %v, want %v", got, wanted)
			}
			a, err := record.OpenArchive(dir)
			if err != nil {
				t.Fatal(err)
			}
			if r, _, err := a.Record(receipts[0].Verdict); err != nil || r.TokenID != ids[0] {
				t.Errorf("the record that the receipt names: %+v, %v", r, err)
			}
		})
	}
}

// TestVerdictsOfProviders: what a provider decides is reached again from the records,
// its refusals too.
func TestVerdictsOfProviders(t *testing.T) {
	w, dir := keeper(t, "all")
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	in := intel.Input(t, dcaptest.CollateralOptions{})
	providers := maa.New(maa.Config{
		Verifier: w.service.verifier, Input: func(tee.Evidence) tee.Input { return in }, Judged: w.service.verdicts.judged, Now: func() time.Time { return dcaptest.At },
		Caller: func(*http.Request) []byte { return nil },
	})
	if err := providers.Begin(forgets{}); err != nil {
		t.Fatal(err)
	}
	ask := func(quote []byte, want int) string {
		t.Helper()
		body := strings.NewReader(`{"quote":"` + base64.RawURLEncoding.EncodeToString(quote) + `"}`)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost/attest/SgxEnclave?api-version=2025-06-01", body)
		answer := httptest.NewRecorder()
		providers.ServeHTTP(answer, r)
		var token struct{ Token string }
		if err := json.Unmarshal(answer.Body.Bytes(), &token); err != nil || answer.Code != want {
			t.Fatalf("%d %s, %v", answer.Code, answer.Body, err)
		}
		return token.Token
	}
	quote := p.Evidence(t, dcaptest.QuoteOptions{}).Data
	id := tokenIDOf(t, ask(quote, http.StatusOK))
	quote = bytes.Clone(quote)
	quote[100] ^= 1
	ask(quote, http.StatusBadRequest)
	w.stop()
	got := replayed(t, dir, w.service.verifier)
	slices.Sort(got)
	if !slices.Equal(got, []string{"-", id}) {
		t.Errorf("%v, want a refusal and the token %s", got, id)
	}
}

// forgets is a log of providers that nobody opens again.
type forgets struct{}

func (forgets) Append([]byte) error { return nil }

// TestRefusalsAreKept where all verdicts are, and nowhere else.
func TestRefusalsAreKept(t *testing.T) {
	for keep, want := range map[string][]string{"releases": nil, "all": {"-", "-", "-", "-"}} {
		t.Run(keep, func(t *testing.T) {
			w, dir := keeper(t, keep)
			owner, in := w.client(identity(t)), w.workload()
			strict := policy(t, func(p *keys.Policy) { p.Appraisal.Measurements = []string{strings.Repeat("00", 32)} })
			if _, err := owner.PutKey(t.Context(), client.PutKey{Name: "app/key", Policy: strict}); err != nil {
				t.Fatal(err)
			}
			n := w.client(nil)
			req, _ := w.ask(in, "app/key")
			_, err := n.Release(t.Context(), req) // the key's policy
			wantCode(t, err, 403, "refused")
			req, _ = w.ask(in, "app/key")
			req.Nonce, err = n.Nonce(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = n.Release(t.Context(), req) // bound to another nonce
			wantCode(t, err, 403, "not_verified")
			hardware, err := json.Marshal(attest.HardwareDefault())
			if err != nil {
				t.Fatal(err)
			}
			for _, data := range [][]byte{req.Evidence.Data, []byte("junk")} { // bound to another nonce, and none
				nonce, err := n.Nonce(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				ev := req.Evidence
				ev.Data = data
				_, err = n.Attest(t.Context(), client.AttestRequest{Nonce: nonce, Evidence: ev, Policy: hardware})
				wantCode(t, err, 403, "not_verified")
			}
			w.stop()
			if keep == "releases" {
				if a, err := record.OpenArchive(dir); err != nil {
					t.Error(err)
				} else if names, err := a.Names(); err != nil || len(names) != 0 {
					t.Errorf("%v, %v", names, err)
				}
				return
			}
			if got := replayed(t, dir, w.service.verifier); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestVerdictsThatCannotBeKept: nothing is released for a verdict whose record the
// disk refuses, and the node ends.
func TestVerdictsThatCannotBeKept(t *testing.T) {
	w, dir := keeper(t, "releases")
	owner, in := w.client(identity(t)), w.workload()
	if _, err := owner.PutKey(t.Context(), client.PutKey{Name: "app/key", Policy: policy(t, nil)}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	req, _ := w.ask(in, "app/key")
	if got, err := w.client(nil).Release(t.Context(), req); err == nil {
		t.Errorf("released: %+v", got)
	}
	select {
	case err := <-w.ended:
		if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != compute.CodeDisk {
			t.Errorf("the node ended with %v, want code disk", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the node goes on")
	}
}

func TestWhatToKeepIsReadStrictly(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "keep-verdicts"), []byte("some"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openVerdicts(state, nil, nil); err == nil {
		t.Error("opened")
	}
}
