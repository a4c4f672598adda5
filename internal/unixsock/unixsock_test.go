package unixsock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func longPath(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 150))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "sock")
}

func TestListenAndDialAtAnyLength(t *testing.T) {
	for name, path := range map[string]string{"short": filepath.Join(t.TempDir(), "s"), "long": longPath(t)} {
		t.Run(name, func(t *testing.T) {
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("socket has mode %v (%v), want 0600", st.Mode(), err)
			}
			c, err := Dial(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			peer, err := l.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			if err := SamePeer(peer); err != nil {
				t.Error(err)
			}
			if pid, err := PeerPID(c); err != nil || pid != os.Getpid() {
				t.Errorf("peer is process %d (%v), want %d", pid, err, os.Getpid())
			}
			if _, err := Listen(path); !errors.Is(err, ErrInUse) {
				t.Errorf("second Listen: %v, want ErrInUse", err)
			}
			if err := errors.Join(c.Close(), peer.Close(), l.Close()); err != nil {
				t.Error(err)
			}
			again, err := Listen(path) // a dead socket is replaced
			if err != nil {
				t.Fatal(err)
			}
			_ = again.Close()
		})
	}
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil {
		t.Error("listens on a file")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "keep" {
		t.Errorf("the file is %q (%v)", b, err)
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), strings.Repeat("n", 150)), "/nowhere/" + strings.Repeat("d", 120) + "/s"} {
		if _, err := Listen(bad); err == nil {
			t.Errorf("listens on %s", bad)
		}
		if _, err := Dial(t.Context(), bad); err == nil {
			t.Errorf("connects to %s", bad)
		}
	}
}

func TestOtherUserIsRefused(t *testing.T) {
	if err := allowedUID(1000, 1000); err != nil {
		t.Error(err)
	}
	for _, peer := range []uint32{0, 999, 1<<32 - 1} {
		if allowedUID(peer, 1000) == nil {
			t.Errorf("uid %d is let in", peer)
		}
	}
}
