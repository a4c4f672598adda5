package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
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
// of the tokens that were issued for them.
func replayed(t *testing.T, dir string, v *attest.Verifier) []string {
	t.Helper()
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	names, err := a.Names()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, name := range names {
		if got, err := a.Replay(v, name); err != nil || !got.Same || !got.Accepted {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		r, _, err := a.Record(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.TokenID)
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

// TestVerdictsOfProviders: what is kept is that the evidence verified, whatever its
// TCB status.
func TestVerdictsOfProviders(t *testing.T) {
	w, dir := keeper(t, "all")
	intel := dcaptest.New(t)
	ev := intel.Platform(t, dcaptest.PlatformOptions{}).Evidence(t, dcaptest.QuoteOptions{})
	v, err := w.service.verifier.Verify(ev, intel.Input(t, dcaptest.CollateralOptions{}), attest.WithoutFreshness())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.service.verdicts.provided(v, 3, "of a provider"); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if got := replayed(t, dir, w.service.verifier); !slices.Equal(got, []string{"of a provider"}) {
		t.Errorf("%v", got)
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
	if _, err := openVerdicts(state, nil); err == nil {
		t.Error("opened")
	}
}
