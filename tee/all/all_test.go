package all_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// TestKinds: no TEE is listed twice, and each attester has a verifier.
func TestKinds(t *testing.T) {
	verifiers := map[tee.Kind]bool{}
	for _, v := range all.Verifiers() {
		if verifiers[v.Kind()] {
			t.Errorf("%s twice", v.Kind())
		}
		verifiers[v.Kind()] = true
	}
	seen := map[tee.Kind]bool{}
	for _, a := range all.Attesters() {
		if seen[a.Kind()] || !verifiers[a.Kind()] {
			t.Errorf("%s: twice, or without a verifier", a.Kind())
		}
		seen[a.Kind()] = true
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
