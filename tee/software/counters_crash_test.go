//go:build linux

package software

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
)

// TestStopAtEveryStep stops dead before each change of the disk during an
// advance, then starts again: the counter stands at one of the two values, and
// nothing is taken for a rollback.
func TestStopAtEveryStep(t *testing.T) {
	sawOld, sawNew := false, false
	for stop := 0; ; stop++ {
		p := newPlatform(t)
		in := start(t, p, testDocument(), nil)
		advanceTo(t, in, "c", 2)
		n := 0
		p.dir.step = func(string, string) error {
			if n++; n > stop {
				return errors.New("stopped dead")
			}
			return nil
		}
		err := in.AdvanceCounter(t.Context(), "c", 2, digestOf(3))
		p.Close()
		if err == nil {
			if stop < 6 {
				t.Errorf("an advance has only %d steps", stop)
			}
			break
		}
		wantCode(t, err, tee.CodeUnavailable)
		p = open(t, p.dir.path)
		in = start(t, p, testDocument(), nil)
		got, digest, err := in.ReadCounter(t.Context(), "c")
		if err != nil || (got != 2 && got != 3) || digest != digestOf(got) {
			t.Fatalf("stopped before step %d: counter %d %x %v", stop, got, digest, err)
		}
		sawOld, sawNew = sawOld || got == 2, sawNew || got == 3
		advanceTo(t, in, "c", got+1)
		wantNoLeftovers(t, p)
	}
	if !sawOld || !sawNew {
		t.Error("the stops did not fall on both sides of the change")
	}
}

func wantNoLeftovers(t *testing.T, p *Platform) {
	t.Helper()
	for _, e := range must(os.ReadDir(p.dir.path)) {
		if strings.HasSuffix(e.Name(), ".new") {
			t.Errorf("%s left behind", e.Name())
		}
	}
}

// TestStepFails fails each change of the disk once, as a full disk does, while
// the platform runs on: it recovers without a restart.
func TestStepFails(t *testing.T) {
	for fail := 0; ; fail++ {
		p := newPlatform(t)
		in := start(t, p, testDocument(), nil)
		advanceTo(t, in, "c", 2)
		n, failed := 0, ""
		p.dir.step = func(action, name string) error {
			if n++; n == fail+1 {
				failed = action + " " + name
				return syscall.ENOSPC
			}
			return nil
		}
		err := in.AdvanceCounter(t.Context(), "c", 2, digestOf(3))
		if failed == "" {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%s: got %v, want ENOSPC as the cause", failed, err)
		}
		wantCode(t, err, tee.CodeUnavailable)
		got, digest, err := in.ReadCounter(t.Context(), "c")
		if err != nil || (got != 2 && got != 3) || digest != digestOf(got) {
			t.Fatalf("%s: counter %d %x %v", failed, got, digest, err)
		}
		advanceTo(t, in, "c", 4)
		wantNoLeftovers(t, p)
		p.Close()
		p = open(t, p.dir.path)
		wantCounter(t, start(t, p, testDocument(), nil), "c", 4)
	}
}

// TestRecoveryFails fails the disk for good after a write failed halfway.
func TestRecoveryFails(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	advanceTo(t, in, "c", 2)
	p.dir.step = func(action, name string) error {
		if action == "overwrite" {
			return syscall.EIO
		}
		return nil
	}
	for range 3 {
		wantCode(t, in.AdvanceCounter(t.Context(), "c", 2, digestOf(3)), tee.CodeUnavailable)
		_, _, err := in.ReadCounter(t.Context(), "c")
		wantCode(t, err, tee.CodeUnavailable)
	}
	p.dir.step = nil
	wantCounter(t, in, "c", 3)
	// A halfway write is no excuse for an older state.
	older := take(t, p.dir.path)
	advanceTo(t, in, "c", 5)
	p.dir.step = func(action, name string) error {
		if action == "overwrite" {
			return syscall.EIO
		}
		return nil
	}
	wantCode(t, in.AdvanceCounter(t.Context(), "c", 5, digestOf(6)), tee.CodeUnavailable)
	p.dir.step = nil
	older.put(t, p.dir.path)
	_, _, err := in.ReadCounter(t.Context(), "c")
	wantCode(t, err, tee.CodeRollback)
}

func TestOrderAndNumberOfSyncs(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	var got []string
	p.dir.step = func(action, name string) error {
		got = append(got, action+" "+name)
		return nil
	}
	advanceTo(t, in, "c", 1)
	want := []string{
		"create counters.new", "write counters.new", "sync counters.new", "rename counters", "sync .",
		"overwrite anchor", "sync anchor",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
