package cli

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/unixsock"
)

// TestDownIsDown: `up` does not end before its platform has, so that the next one does
// not adopt one that is about to end.
func TestDownIsDown(t *testing.T) {
	f := newFaultTest(t)
	c, err := unixsock.Dial(t.Context(), datadir.Paths{Data: f.dir}.PlatformSocket())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := unixsock.PeerPID(c)
	_ = c.Close()
	if err != nil {
		t.Fatal(err)
	}
	// A platform that takes its time.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	proceed := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	defer proceed()
	if err := f.up.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.upDone:
		t.Fatal("up has ended, and its platform has not")
	case <-time.After(2 * time.Second):
	}
	proceed()
	<-f.upDone
	if c, err := unixsock.Dial(t.Context(), datadir.Paths{Data: f.dir}.PlatformSocket()); err == nil {
		_ = c.Close()
		t.Error("the platform of a data directory that is down still listens")
	}
	f.start(t) // at once
}
