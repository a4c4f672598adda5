//go:build linux

package statelog

import (
	"path/filepath"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// The same on the software TEE, with its own sealing and counters, through its
// restart.
func TestOnTheSoftwareTEE(t *testing.T) {
	p := softwaretest.New(t)
	path := filepath.Join(t.TempDir(), "log")
	node := launch.NewBuiltin(launch.RoleNode)
	l := mustOpen(t, p.Device(t, node, nil, nil), path)
	l.add(t, "one")
	old := read(t, path)
	l.add(t, "two", "three")
	l.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	p = softwaretest.Open(t, p.Dir)
	image := []byte("other code")
	_, err := openLog(t, p.Device(t, launch.New(launch.Wasm, image), image, nil), path)
	wantCode(t, err, tee.CodeSealed)
	_, err = openLog(t, p.Device(t, node, nil, nil), file(t, old))
	wantCode(t, err, tee.CodeRollback)
	l = mustOpen(t, p.Device(t, node, nil, nil), path)
	wantEntries(t, l, "one", "two", "three")
	l.add(t, "four")
	l.Close()

	_, err = openLog(t, softwaretest.New(t).Device(t, node, nil, nil), path) // another platform
	wantCode(t, err, tee.CodeSealed)
}
