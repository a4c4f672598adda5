package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// launched is a launch as an agent measures it.
func launched(t testing.TB, change func(*launch.Document)) launch.Event {
	t.Helper()
	d := launch.New(launch.Wasm, []byte("module"))
	d.Signer, d.Product, d.SVN = bytes.Repeat([]byte{9}, 32), 4, 5
	if change != nil {
		change(&d)
	}
	document, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return launch.Event{
		Document: document, InstanceID: "instance", NodeRoot: bytes.Repeat([]byte{1}, 32), NodeRuntime: bytes.Repeat([]byte{2}, 32), Walls: []string{"seccomp"},
	}
}

// attested is evidence of a chip that measured a launch, and of whatever else.
func attested(t testing.TB, measure func(*tpmtest.TPM)) (tee.Evidence, tee.Input) {
	t.Helper()
	c := chip(t, tpm.ECDSA)
	measure(c)
	ev, err := c.Evidence(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return ev, tee.Input{At: tpmtest.At, Endorsements: tee.Endorsements{Collateral: trusted(t, c.Key.Public())}}
}

// TestLaunchClaims: what an agent measures becomes claims, as the guest's word.
func TestLaunchClaims(t *testing.T) {
	e := launched(t, nil)
	ev, in := attested(t, func(c *tpmtest.TPM) { c.Launch(t, e) })
	c, _ := verifies(t, ev, in)
	digest := sha256.Sum256(e.Document)
	if !bytes.Equal(c.LaunchDigest, digest[:]) || c.InstanceID != "instance" || !bytes.Equal(c.Signer, bytes.Repeat([]byte{9}, 32)) || c.Product != 4 || c.SVN != 5 || !c.LaunchByGuest || c.Debug || c.Simulated || len(c.Measurement) != 32 {
		t.Errorf("claims %+v", c)
	}
	want := map[string]any{"role": "workload", "walls": []any{"seccomp"}, "missing_walls": []any{}}
	got := map[string]any{"role": c.Vendor["role"], "walls": c.Vendor["walls"], "missing_walls": c.Vendor["missing_walls"]}
	if d := cmp.Diff(want, got); d != "" || c.Vendor["node_root"] != "0101010101010101010101010101010101010101010101010101010101010101" {
		t.Error(d, c.Vendor["node_root"])
	}
	ev, in = attested(t, func(c *tpmtest.TPM) { c.Launch(t, launched(t, func(d *launch.Document) { d.Debug = true })) })
	if c, _ := verifies(t, ev, in); !c.Debug {
		t.Error("a debug launch is not one in the claims")
	}
}

// TestLaunchIsFirst: only the first event of the register says what is launched, if
// the register proves it.
func TestLaunchIsFirst(t *testing.T) {
	good, err := launched(t, nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, measure := range map[string]func(*tpmtest.TPM){
		"nothing":        func(c *tpmtest.TPM) { c.Measure(8, eventlog.TypeIPL, []byte("x")) },
		"not first":      func(c *tpmtest.TPM) { c.Measure(15, eventlog.TypeIPL, []byte("x")); c.Launch(t, launched(t, nil)) },
		"other register": func(c *tpmtest.TPM) { c.Measure(14, eventlog.TypeIPL, good) },
		"not quoted": func(c *tpmtest.TPM) {
			s := c.Template.Selections
			c.Launch(t, launched(t, nil))
			c.Template.Selections = s
		},
		"no event of ours": func(c *tpmtest.TPM) {
			c.Launch(t, launched(t, nil))
			c.Boot(true)
			c.Measure(15, eventlog.TypeIPL, []byte("machine-id"))
		},
	} {
		ev, in := attested(t, measure)
		if c, _ := verifies(t, ev, in); c.LaunchByGuest || c.LaunchDigest != nil || c.InstanceID != "" || c.Vendor["role"] != nil {
			t.Errorf("%s: claims %+v", name, c)
		}
	}
	// A later event changes nothing: the program may extend what it likes.
	ev, in := attested(t, func(c *tpmtest.TPM) {
		c.Launch(t, launched(t, nil))
		c.Measure(15, eventlog.TypeIPL, []byte("later"))
	})
	if c, _ := verifies(t, ev, in); !c.LaunchByGuest {
		t.Error("a later event hides the launch")
	}
	// A log without the event, or with another one, does not replay.
	ev, in = attested(t, func(c *tpmtest.TPM) {
		before := c.Log
		c.Launch(t, launched(t, nil))
		c.Log = before
		c.Measure(15, eventlog.TypeIPL, []byte("another"))
	})
	refuses(t, ev, in, tee.CodeEventLog)
	// One that begins as ours and is none was not made by an agent.
	ev, in = attested(t, func(c *tpmtest.TPM) {
		c.Launch(t, launched(t, nil))
		c.Boot(true)
		c.Measure(15, eventlog.TypeIPL, []byte(launch.EventPrefix+"x"))
	})
	refuses(t, ev, in, tee.CodeParse)
}
