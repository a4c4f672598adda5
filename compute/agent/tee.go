package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"os"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// platform is the TEE of an instance as its agent sees it.
type platform interface {
	call.TEE
	// begin has the TEE compare what the host says is launched with what it has
	// measured, or measure it. Evidence is of this launch from then on.
	begin(ctx context.Context, l link.Launch, walls sandbox.Report) (begun, error)
	// enrol sees to it that the node can believe the TEE's evidence, by asking the
	// node; it is called before each release.
	enrol(ctx context.Context, ask func(path string, body, into any) error) error
	// boot is the token of this boot that a release wants; nil where there are none.
	boot() []byte
	// lost reports whether the TEE was reset under the instance.
	lost(ctx context.Context) bool
}

// begun is a launch that is measured.
type begun struct {
	document launch.Document
	identity call.Identity
	node     compute.Node
}

// mismatch refuses a launch document that is not the one that was measured.
func mismatch() error {
	return &failure{code: "launch_mismatch", err: errors.New("the host gave another launch document than the one that was measured")}
}

// softwareTEE is the software TEE: its platform has measured the launch before
// anything ran.
type softwareTEE struct{ *software.Device }

func openSoftware() (platform, error) {
	device, err := software.OpenDevice(os.NewFile(deviceFD, "TEE device"))
	if err != nil {
		return nil, err
	}
	return softwareTEE{device}, nil
}

func (s softwareTEE) begin(ctx context.Context, l link.Launch, walls sandbox.Report) (begun, error) {
	info := s.Info()
	digest := sha256.Sum256(l.Document)
	if subtle.ConstantTimeCompare(digest[:], info.LaunchDigest[:]) != 1 {
		return begun{}, mismatch()
	}
	doc, err := launch.Parse(l.Document)
	if err != nil {
		return begun{}, err
	}
	if err := s.SetSandbox(ctx, sandbox.Strings(walls.Applied), sandbox.Strings(walls.Missing)); err != nil {
		return begun{}, err
	}
	return begun{
		document: doc, node: compute.Node{Root: info.RootCertificate, Runtime: info.RuntimeDigest[:]},
		identity: call.Identity{
			TEE: tee.Software, Simulated: true, Measurement: info.Measurement, LaunchDigest: info.LaunchDigest[:],
			InstanceID: info.InstanceID, RuntimeDigest: info.RuntimeDigest[:], Root: info.RootCertificate,
		},
	}, nil
}

// enrol has nothing to do: the platform's certificate leads to the node's own root.
func (s softwareTEE) enrol(context.Context, func(string, any, any) error) error { return nil }

func (s softwareTEE) boot() []byte { return nil }

func (s softwareTEE) lost(ctx context.Context) bool {
	_, _, err := s.ReadCounter(ctx, "agent")
	return errors.Is(err, &tee.Error{Code: tee.CodeUnavailable})
}
