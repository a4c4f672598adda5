package software

import (
	"fmt"

	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/sealing"
)

// Bounds of the platform. What goes beyond them is refused.
const (
	MaxCounters         = 4096 // counters of a platform
	MaxCountersPerOwner = 256  // counters of one measurement or signer
	MaxCounterName      = 128  // bytes, printable ASCII without space
	MaxInstanceID       = launch.MaxInstanceID
	MaxSealContext      = sealing.MaxContext // bytes of the caller's sealing context
	MaxInstances        = 4096               // launches alive at one time
	MaxWalls            = launch.MaxWalls
	MaxWall             = launch.MaxWall
	maxFrame            = 64 << 10
)

// validName refuses names that are empty, too long or not printable ASCII.
func validName(what, s string, max int) error {
	if s == "" || len(s) > max {
		return fmt.Errorf("%s: %d bytes, want 1 to %d", what, len(s), max)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%s: byte %d is not printable ASCII", what, i)
		}
	}
	return nil
}

// validWalls refuses lists that evidence could not carry.
func validWalls(what string, walls []string) error {
	if len(walls) > MaxWalls {
		return fmt.Errorf("%s: %d entries, at most %d", what, len(walls), MaxWalls)
	}
	for _, w := range walls {
		if err := validName(what, w, MaxWall); err != nil {
			return err
		}
	}
	return nil
}
