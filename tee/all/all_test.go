package all_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// TestKinds: no TEE has two verifiers, and each attester has one. The guests of
// SEV-SNP and TDX have two ways to ask, and the one that Linux keeps comes first.
func TestKinds(t *testing.T) {
	verifiers := map[tee.Kind]bool{}
	for _, v := range all.Verifiers() {
		if verifiers[v.Kind()] {
			t.Errorf("%s twice", v.Kind())
		}
		verifiers[v.Kind()] = true
	}
	ways := map[tee.Kind]int{}
	for _, a := range all.Attesters() {
		if !verifiers[a.Kind()] {
			t.Errorf("%s: without a verifier", a.Kind())
		}
		_, isSNP := a.(snp.Attester)
		_, isTDX := a.(tdx.Attester)
		if (isSNP || isTDX) != (ways[a.Kind()] == 0 && (a.Kind() == tee.SNP || a.Kind() == tee.TDX)) {
			t.Errorf("%s: configfs-tsm does not come first", a.Kind())
		}
		ways[a.Kind()]++
	}
	for kind, n := range ways {
		if two := kind == tee.SNP || kind == tee.TDX; two != (n == 2) || n > 2 {
			t.Errorf("%s: %d attesters", kind, n)
		}
	}
}

// fake gives evidence, or says why not.
type fake struct {
	kind tee.Kind
	err  error
}

func (f fake) Kind() tee.Kind { return f.kind }

func (f fake) Evidence(context.Context, [64]byte) (tee.Evidence, error) {
	return tee.Evidence{Kind: f.kind}, f.err
}

func TestEvidence(t *testing.T) {
	broken := fake{tee.SGX, errors.New("no enclave")}
	ev, err := all.Evidence(t.Context(), []tee.Attester{broken, fake{kind: tee.TDX}, fake{kind: tee.SNP}}, [64]byte{})
	if err != nil || ev.Kind != tee.TDX {
		t.Errorf("%s, %v", ev.Kind, err)
	}
	for _, attesters := range [][]tee.Attester{nil, {broken}} {
		_, err := all.Evidence(t.Context(), attesters, [64]byte{})
		e, ok := errors.AsType[*tee.Error](err)
		if !ok || e.Code != tee.CodeUnavailable || len(attesters) > 0 && !strings.Contains(err.Error(), "no enclave") {
			t.Errorf("%v", err)
		}
	}
}

// TestThisMachine: each attester answers, with evidence or with why not.
func TestThisMachine(t *testing.T) {
	for _, a := range all.Attesters() {
		ev, err := a.Evidence(t.Context(), [64]byte{})
		if e, ok := errors.AsType[*tee.Error](err); err != nil && (!ok || e.Code != tee.CodeUnavailable) || err == nil && ev.Kind != a.Kind() {
			t.Errorf("%s: %s, %v", a.Kind(), ev.Kind, err)
		}
	}
}
