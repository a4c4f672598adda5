package datadir_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/internal/datadir"
)

// The places are part of the format of a data directory: an older one must be
// found again, and no two may fall together.
func TestPaths(t *testing.T) {
	p := datadir.Paths{Data: "/data"}
	want := map[string]string{
		p.Lock(): "/data/lock", p.Platform(): "/data/platform", p.PlatformSocket(): "/data/run/platform.sock", p.PlatformLog(): "/data/run/platform.log",
		p.Root(): "/data/platform/root.pem", p.Instances(): "/data/instances", p.API(): "/data/run/api.sock",
	}
	if len(want) != 7 {
		t.Errorf("two places are one: %v", want)
	}
	for got, w := range want {
		if got != w {
			t.Errorf("%s, want %s", got, w)
		}
	}
}

// A shim knows its instance's directory only, and finds the platform from there.
func TestOf(t *testing.T) {
	for _, data := range []string{"/data", "/", "relative/data", "/a b/" + strings.Repeat("d", 200)} {
		p := datadir.Paths{Data: data}
		if got := datadir.Of(filepath.Join(p.Instances(), "0123456789abcdef")); got != p {
			t.Errorf("the data directory of an instance in %s is %s", data, got.Data)
		}
	}
}
