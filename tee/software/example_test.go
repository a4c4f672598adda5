//go:build linux

package software_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// A platform launches a builtin, its instance gives evidence, and a relying
// party that was given the development root verifies it.
func Example() {
	if err := run(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the measurement is the expected one: true
	// simulated: true
	// without its root: refused
}

func run() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "platform")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	platform, err := software.OpenPlatform(filepath.Join(dir, "platform"), software.Options{})
	if err != nil {
		return err
	}
	defer platform.Close()

	document, err := launch.NewBuiltin(launch.RoleNode).Encode()
	if err != nil {
		return err
	}
	instance, err := platform.Launch(ctx, software.LaunchRequest{Document: document, InstanceID: "node-1"})
	if err != nil {
		return err
	}
	file, err := instance.Device() // goes to the sandboxed child
	if err != nil {
		return err
	}
	device, err := software.OpenDevice(file)
	if err != nil {
		return err
	}
	defer device.Close()
	evidence, err := device.Evidence(ctx, tee.Bind("example", []byte("nonce")))
	if err != nil {
		return err
	}

	root, err := x509.ParseCertificate(platform.Info().RootCertificate)
	if err != nil {
		return err
	}
	verifier := software.New()
	claims, _, err := verifier.Verify(evidence, tee.Input{Roots: tee.Roots{root}, At: time.Now()})
	if err != nil {
		return err
	}
	digest, err := launch.NewBuiltin(launch.RoleNode).Digest()
	if err != nil {
		return err
	}
	runtime, err := software.RuntimeDigest()
	if err != nil {
		return err
	}
	fmt.Println("the measurement is the expected one:", claims.Measurement.Equal(software.Expect(runtime, digest)))
	fmt.Println("simulated:", claims.Simulated)
	if _, _, err := verifier.Verify(evidence, tee.Input{At: time.Now()}); err != nil {
		fmt.Println("without its root: refused")
	}
	return nil
}
