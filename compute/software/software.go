// Package software is the compute driver of the software TEE: every instance is
// a sandboxed child process (package compute/sandbox), measured by the software
// platform (package tee/software).
//
// # What it protects against
//
// The program in an instance harming the host.
//
// # What it does not protect against
//
// The host reading the instance: the software TEE is for development, and its
// evidence says simulated.
package software

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	swtee "github.com/cloister-cc/cloister/tee/software"
)

// Driver starts instances of the software TEE on the platform that listens at
// a socket.
type Driver struct{ platform string }

// New returns the driver for the platform that listens at the path.
func New(platformSocket string) *Driver { return &Driver{platform: platformSocket} }

// Kind returns tee.Software.
func (d *Driver) Kind() tee.Kind { return tee.Software }

// Expect returns the measurement of a launch by this very program.
func (d *Driver) Expect(spec compute.Spec) (compute.Expectation, error) {
	if spec.Size != (compute.Size{}) {
		return compute.Expectation{}, errors.New("a process has no size of its own: its launch document limits its memory")
	}
	runtime, err := swtee.RuntimeDigest()
	if err != nil {
		return compute.Expectation{}, err
	}
	digest, err := spec.Launch.Digest()
	if err != nil {
		return compute.Expectation{}, err
	}
	return compute.Expectation{Measurement: swtee.Expect(runtime, digest), Simulated: true, Size: compute.Size{MemoryMiB: int(spec.Launch.MemoryMiB) + overheadMiB}}, nil
}

// Compare has nothing to say: the platform refuses to measure anything else.
func (d *Driver) Compare(compute.Expectation, tee.Evidence) []tee.Failure { return nil }

// Limits of an instance beside its program's memory: the agent, the Wasm
// runtime, and a little room.
const (
	overheadMiB  = 96
	maxProcesses = 256
)

// Boot has the platform measure the launch and starts the sandboxed agent.
func (d *Driver) Boot(ctx context.Context, b compute.Boot) (compute.Machine, error) {
	device, err := d.measure(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { _ = device.Close() }()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make channel: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "host side"), os.NewFile(uintptr(fds[1]), "instance side")
	defer func() { _ = theirs.Close() }()
	channel, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("make channel: %w", err)
	}
	memory := uint64(b.Spec.Launch.MemoryMiB+overheadMiB) << 20
	group := sandbox.NewCgroup(b.ID, memory, maxProcesses)
	cell, err := sandbox.Start(sandbox.Config{
		Root: b.Dir.Root(), State: b.Dir.State(), ScratchMiB: int(b.Spec.Launch.MemoryMiB), Hostname: "instance",
	}, []string{agent.Command}, b.Output, []*os.File{theirs, device, b.Lock}, group.Add)
	if err != nil {
		group.Remove()
		_ = channel.Close()
		return nil, &tee.Error{Code: compute.CodeSandbox, Op: "start instance", Err: err, Hint: "see what this host offers: cloister doctor"}
	}
	return &machine{channel: channel, cell: cell, group: group}, nil
}

func (d *Driver) measure(ctx context.Context, b compute.Boot) (*os.File, error) {
	client, err := swtee.Connect(d.platform)
	if err != nil {
		return nil, err
	}
	var image *os.File
	if b.Spec.Launch.Image.Kind != launch.Builtin {
		if image, err = os.Open(b.Dir.Image(b.Spec.Launch.Image.Digest)); err != nil {
			return nil, fmt.Errorf("open image: %w", err)
		}
		defer func() { _ = image.Close() }()
	}
	device, _, err := client.Launch(ctx, swtee.LaunchRequest{Document: b.Document, Signature: b.Spec.Signature, Image: image, InstanceID: b.ID})
	return device, err
}

// machine is a running instance.
type machine struct {
	channel net.Conn
	cell    *sandbox.Cell
	group   *sandbox.Cgroup
}

func (m *machine) Channel() io.ReadWriteCloser { return m.channel }
func (m *machine) Done() <-chan struct{}       { return m.cell.Done() }
func (m *machine) Node() compute.Node          { return compute.Node{} }

func (m *machine) Kill() {
	m.cell.Kill()
	m.group.Remove()
}

// Postmortem tells an instance that hit its memory limit from one that was
// killed otherwise.
func (m *machine) Postmortem() (code, message string) {
	defer m.group.Remove()
	err := m.cell.Wait()
	switch {
	case m.group.OutOfMemory():
		return compute.CodeOutOfMemory, "the instance reached its memory limit"
	case err != nil:
		return compute.CodeAgentLost, "the instance ended without a word: " + err.Error()
	default:
		return "", ""
	}
}

// Interface guards.
var (
	_ compute.Driver  = (*Driver)(nil)
	_ compute.Machine = (*machine)(nil)
)
