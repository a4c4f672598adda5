package datadir_test

import (
	"testing"

	"github.com/cloister-cc/cloister/internal/datadir"
)

func TestKeep(t *testing.T) {
	p := datadir.Paths{Data: t.TempDir()}
	if k, err := datadir.ReadKeep(p.NodeState()); err != nil || k != datadir.KeepReleases {
		t.Errorf("told nothing: %q, %v", k, err)
	}
	for _, k := range []datadir.Keep{datadir.KeepAll, datadir.KeepReleases, datadir.KeepNone} {
		if err := p.WriteKeep(k); err != nil {
			t.Fatal(err)
		}
		if got, err := datadir.ReadKeep(p.NodeState()); err != nil || got != k {
			t.Errorf("%q, %v, want %q", got, err, k)
		}
	}
	for _, k := range []datadir.Keep{"", "some", "ALL"} {
		if err := p.WriteKeep(k); err == nil {
			t.Errorf("%q: written", k)
		}
	}
}
