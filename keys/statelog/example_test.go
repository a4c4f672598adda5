//go:build linux

package statelog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/keys/statelog"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// A service keeps its state on the host's disk; after a restart it gets back
// what it had, or an error, never an older state.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "statelog")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	instance, stop := launchOn(ctx, dir)
	defer stop()

	path := filepath.Join(dir, "state.log")
	replay := func(_ statelog.Position, entry []byte) error {
		fmt.Printf("replayed %s\n", entry)
		return nil
	}
	log, err := statelog.Open(ctx, instance, path, "state", replay)
	if err != nil {
		panic(err)
	}
	if _, err := log.Append(ctx, [][]byte{[]byte("grant 1")}); err != nil {
		panic(err)
	}
	older, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	if _, err := log.Append(ctx, [][]byte{[]byte("revoke 1")}); err != nil {
		panic(err)
	}
	_ = log.Close()

	log, err = statelog.Open(ctx, instance, path, "state", replay)
	if err != nil {
		panic(err)
	}
	_ = log.Close()

	// The host would like the grant back.
	if err := os.WriteFile(path, older, 0o600); err != nil {
		panic(err)
	}
	_, err = statelog.Open(ctx, instance, path, "state", func(statelog.Position, []byte) error { return nil })
	if e, ok := errors.AsType[*tee.Error](err); ok {
		fmt.Println("refused:", e.Code)
	}
	// Output:
	// replayed grant 1
	// replayed revoke 1
	// refused: rollback
}

// launchOn starts a simulated platform and an instance on it.
func launchOn(ctx context.Context, dir string) (*software.Instance, func()) {
	p, err := software.OpenPlatform(filepath.Join(dir, "platform"), software.Options{})
	if err != nil {
		panic(err)
	}
	doc, err := launch.NewBuiltin(launch.RoleNode).Encode()
	if err != nil {
		panic(err)
	}
	in, err := p.Launch(ctx, software.LaunchRequest{Document: doc, InstanceID: "node-1"})
	if err != nil {
		panic(err)
	}
	return in, func() { _ = p.Close() }
}
