package shim

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/tap"
	"github.com/cloister-cc/cloister/tee"
)

func TestLife(t *testing.T) {
	r := start(t, &fakeDriver{boot: func(b compute.Boot) error {
		document, err := b.Spec.Launch.Encode()
		if err != nil || string(document) != string(b.Document) || b.ID != "0123456789abcdef" || b.Lock == nil {
			t.Errorf("booted with %+v (%v)", b, err)
		}
		return nil
	}})
	w := watch(t, r.dir)
	if s := w.state(t, compute.Preparing); s.ShimPID != os.Getpid() || s.Epoch != 7 || s.StartedAt.IsZero() {
		t.Errorf("preparing: %+v", s)
	}
	a := r.agent(t, nil)
	a.report(link.Event{State: link.Preparing})
	a.report(link.Event{State: link.Attesting})
	w.state(t, compute.Attesting)

	ev := &tee.Evidence{Kind: tee.Software, Data: []byte("evidence")}
	a.report(link.Event{State: link.Ready, Evidence: ev, Token: "token 1", Lease: 1_800_000_000})
	s := w.state(t, compute.Running)
	if s.ReadyAt.IsZero() || s.Token != "token 1" || !s.Lease.Equal(time.Unix(1_800_000_000, 0)) || cmp.Diff(s.Evidence, ev) != "" {
		t.Errorf("running: %+v", s)
	}
	a.report(link.Event{State: link.Renewed, Token: "token 2", Lease: 1_900_000_000})
	renewed := w.until(t, "the renewed lease", func(s compute.Status) bool { return s.Token == "token 2" })
	if renewed.State != compute.Running || !renewed.Lease.Equal(time.Unix(1_900_000_000, 0)) || !renewed.ReadyAt.Equal(s.ReadyAt) || renewed.Evidence == nil {
		t.Errorf("renewed: %+v", renewed)
	}
	a.report(link.Event{State: "unheard of"}) // says nothing
	a.report(link.Event{State: link.Exited})
	a.m.end(false)

	final := w.state(t, compute.Stopped)
	if final.ExitCode == nil || *final.ExitCode != 0 || final.Code != "" || final.ShimPID != 0 || final.Epoch != 7 {
		t.Errorf("stopped: %+v", final)
	}
	if err := <-w.err; err != nil {
		t.Errorf("after a good end Watch returns %v", err)
	}
	if onDisk := r.end(t); cmp.Diff(onDisk, final) != "" {
		t.Errorf("on disk (-want +got):\n%s", cmp.Diff(final, onDisk))
	}
	if compute.Locked(r.dir.Lock()) {
		t.Error("the lock outlives the shim")
	}
}

func TestEndings(t *testing.T) {
	failures := []tee.Failure{{Code: "measurement", Claim: "measurement"}}
	cases := []struct {
		name string
		says *link.Event // nil: not a word
		host string      // what the host knows
		want compute.Status
	}{
		{"status 3", &link.Event{State: link.Exited, ExitCode: 3}, "", compute.Status{State: compute.Failed, Code: compute.CodeProgramStatus}},
		{"failed", &link.Event{State: link.Failed, Code: "image_mismatch", Message: "m", Hint: "h", Failures: failures}, "",
			compute.Status{State: compute.Failed, Code: "image_mismatch", Message: "m", Hint: "h", Failures: failures}},
		{"stopped", &link.Event{State: link.Failed, Code: compute.CodeStoppedRequest, Message: "m"}, "", compute.Status{State: compute.Stopped, Code: compute.CodeStoppedRequest, Message: "m"}},
		{"not a word", nil, "", compute.Status{State: compute.Failed, Code: compute.CodeAgentLost}},
		{"the host knows why", nil, compute.CodeOutOfMemory, compute.Status{State: compute.Failed, Code: compute.CodeOutOfMemory}},
		{"the program was killed for memory", &link.Event{State: link.Failed, Code: compute.CodeProgramKilled, Message: "signal killed"}, compute.CodeOutOfMemory,
			compute.Status{State: compute.Failed, Code: compute.CodeOutOfMemory, Message: "the host says out_of_memory", Hint: "raise memory_mib in the launch document"}},
		{"the program was killed otherwise", &link.Event{State: link.Failed, Code: compute.CodeProgramKilled}, compute.CodeAgentLost, compute.Status{State: compute.Failed, Code: compute.CodeProgramKilled}},
		{"another reason comes first", &link.Event{State: link.Failed, Code: "time_limit"}, compute.CodeOutOfMemory, compute.Status{State: compute.Failed, Code: "time_limit"}},
		{"a good end is one", &link.Event{State: link.Exited}, compute.CodeOutOfMemory, compute.Status{State: compute.Stopped}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, &fakeDriver{code: c.host})
			a := r.agent(t, nil)
			if c.says != nil {
				a.report(*c.says)
			}
			a.m.end(false)
			got := r.end(t)
			if got.State != c.want.State || got.Code != c.want.Code || got.Hint != c.want.Hint || cmp.Diff(got.Failures, c.want.Failures) != "" {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if c.want.Message != "" && got.Message != c.want.Message {
				t.Errorf("message %q, want %q", got.Message, c.want.Message)
			}
			if got.State == compute.Failed && got.Message == "" && c.says == nil {
				t.Error("a failure without a word of explanation")
			}
		})
	}
}

// What keeps an instance from starting ends in its status too.
func TestLaunchThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		code, hint string
	}{
		"coded": {&tee.Error{Code: compute.CodeSandbox, Op: "start instance", Hint: "doctor"}, compute.CodeSandbox, "doctor"},
		"plain": {errors.New("no such file"), compute.CodeLaunchRefused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, &fakeDriver{boot: func(compute.Boot) error { return c.err }})
			if s := r.end(t); s.State != compute.Failed || s.Code != c.code || s.Hint != c.hint || s.Message != c.err.Error() || s.ShimPID != 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
	t.Run("no driver", func(t *testing.T) {
		dir := newDir(t)
		none := &tee.Error{Code: compute.CodeNoDriver, Op: "run instance"}
		err := Run(t.Context(), dir, func(tee.Kind) (compute.Driver, error) { return nil, none }, "", slog.New(slog.DiscardHandler))
		if s := dir.ReadStatus(); err != nil || s.State != compute.Failed || s.Code != compute.CodeNoDriver {
			t.Errorf("%v, %+v", err, s)
		}
	})
	t.Run("no intent", func(t *testing.T) {
		dir := compute.Dir(t.TempDir())
		if err := Run(t.Context(), dir, nil, "", slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSecondShimLeavesTheInstanceAlone(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	before := r.dir.ReadStatus()
	run := func(dir compute.Dir, record tap.Dir) error {
		return Run(t.Context(), dir, nil, record, slog.New(slog.DiscardHandler)) // no driver: it must not get that far
	}
	if err := run(r.dir, ""); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
	if code := Main([]string{string(r.dir), ""}, run); code != 0 {
		t.Errorf("as a process it ends with %d: nothing is wrong", code)
	}
	if after := r.dir.ReadStatus(); cmp.Diff(before, after) != "" {
		t.Errorf("the second shim changed the status:\n%s", cmp.Diff(before, after))
	}
	a.m.end(false)
	r.end(t)
	if code := Main([]string{string(r.dir)}, run); code != 2 {
		t.Errorf("misuse ends with %d", code)
	}
	if code := Main([]string{t.TempDir(), ""}, run); code != 1 {
		t.Errorf("a directory without an intent ends with %d", code)
	}
}

// The shim is told to go: its instance goes first.
func TestShimThatIsToldToGoKills(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	r.stop()
	r.end(t)
	if <-a.m.done; !a.m.killed {
		t.Error("the instance was not killed")
	}
}

// fake is a shim without files of a machine, for tests of its clock.
func fake(t *testing.T) (*Shim, *fakeMachine) {
	host, inside := net.Pipe()
	m := &fakeMachine{host: host, inside: inside, done: make(chan struct{})}
	dir := newDir(t)
	s := &Shim{dir: dir, machine: m, logger: slog.New(slog.DiscardHandler), watchers: map[chan compute.Status]struct{}{}}
	s.intent.Name = "worker"
	return s, m
}

func TestInstanceThatNeverAttestsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := fake(t)
		begin := time.Now()
		s.await(t.Context(), m)
		if waited := time.Since(begin); waited != readyTimeout || !m.killed {
			t.Errorf("waited %s, killed %v", waited, m.killed)
		}
		s.finish(s.ending(m))
		if st := s.dir.ReadStatus(); st.Code != compute.CodeReadyTimeout || st.State != compute.Failed || st.Hint == "" {
			t.Errorf("got %+v", st)
		}
	})
}

func TestInstanceThatAttestedMayGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := fake(t)
		s.event(link.Event{State: link.Ready})
		time.AfterFunc(24*time.Hour, func() { m.end(false) })
		begin := time.Now()
		s.await(t.Context(), m)
		if waited := time.Since(begin); waited != 24*time.Hour || m.killed {
			t.Errorf("waited %s, killed %v", waited, m.killed)
		}
	})
}

func TestStopBecomesAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := fake(t)
		begin := time.Now()
		s.stop() // the agent says nothing: there is no channel yet
		<-m.done
		if waited := time.Since(begin); waited != stopTimeout || !m.killed {
			t.Errorf("killed %v after %s, want after %s", m.killed, waited, stopTimeout)
		}
		if err := s.ending(m); !errors.Is(err, errStopped) {
			t.Errorf("it ended with %v", err)
		}
	})
}

// What comes late must not make an ended instance look alive: its supervisor
// would take it for one whose shim was killed.
func TestNothingComesAfterTheEnd(t *testing.T) {
	s, m := fake(t)
	m.end(false)
	s.event(link.Event{State: link.Exited})
	s.finish(s.ending(m))
	s.event(link.Event{State: link.Ready})
	s.event(link.Event{State: link.Failed, Code: "late"})
	s.stop()
	if st := s.dir.ReadStatus(); st.State != compute.Stopped || st.Code != "" || !st.ReadyAt.IsZero() {
		t.Errorf("got %+v", st)
	}
}
