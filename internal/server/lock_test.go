package server

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// TestLockSoon: a lock that is given up in a moment is waited for, one that is held
// is not.
func TestLockSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := compute.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockSoon(t.Context(), path); !errors.Is(err, compute.ErrLocked) {
		t.Errorf("a lock that is held: %v", err)
	}
	time.AfterFunc(lockPatience/5, func() { _ = held.Close() })
	lock, err := lockSoon(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
}
