//go:build linux

package seal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// State goes to the host's disk and comes back, for one purpose only.
func Example() {
	ctx := context.Background()
	s, stop, err := instance(ctx) // inside an instance: enclave.Open
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	blob, err := seal.Seal(ctx, s, tee.SealToMeasurement(), []byte("state"), []byte("my program, file 1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := seal.Unseal(ctx, s, blob, []byte("my program, file 1"))
	fmt.Println(string(plain), err)

	_, err = seal.Unseal(ctx, s, blob, []byte("my program, file 2")) // the host swapped two files
	refusal, _ := errors.AsType[*tee.Error](err)
	fmt.Println(refusal.Code)
	// Output:
	// state <nil>
	// sealed
}

// instance is a software TEE in a temporary directory.
func instance(ctx context.Context) (tee.Sealer, func(), error) {
	dir, err := os.MkdirTemp("", "seal")
	if err != nil {
		return nil, nil, err
	}
	platform, err := software.OpenPlatform(filepath.Join(dir, "platform"), software.Options{})
	if err != nil {
		return nil, nil, err
	}
	stop := func() { _ = platform.Close(); _ = os.RemoveAll(dir) }
	document, err := launch.NewBuiltin(launch.RoleNode).Encode()
	if err != nil {
		return nil, stop, err
	}
	in, err := platform.Launch(ctx, software.LaunchRequest{Document: document, InstanceID: "example"})
	return in, stop, err
}
