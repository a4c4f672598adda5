package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
)

// probeTime bounds a proof. It takes a quarter of that on an idle machine.
const probeTime = 20 * time.Second

// Probe boots a machine, with a TPM, up to the point where the agent in it speaks, and
// ends it. It leaves out the firmware that measures, which takes most of the time of a
// boot, and says whether that is one that measurements can be computed of.
func (d *Driver) Probe(ctx context.Context) compute.Capability {
	c := compute.Capability{TEE: tee.TPM, Simulated: true}
	began := time.Now()
	if err := d.prove(ctx); err != nil {
		c.Detail = err.Error()
		if cause, ok := errors.AsType[*tee.Error](err); ok {
			c.Detail = cause.Err.Error()
		}
		c.Hint = "virtual machines need Debian's packages qemu-system-x86, swtpm, ovmf and linux-image-cloud-amd64, and a static build of this program"
		return c
	}
	c.Available = true
	c.Detail = fmt.Sprintf("a virtual machine with an emulated processor and TPM booted in %.1f s and its agent spoke; protects the host from the program, not the program from the host", time.Since(began).Seconds())
	return c
}

func (d *Driver) prove(ctx context.Context) error {
	f, err := d.find()
	if err != nil {
		return err
	}
	if err := knownFirmware(); err != nil {
		return unavailable(err)
	}
	dir, err := os.MkdirTemp("", "cloister-probe-")
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b, err := (&Driver{Config{Kernel: d.cfg.Kernel}}).ramDisk(f)
	if err != nil {
		return unavailable(err)
	}
	s := start{dir: filepath.Join(dir, "tpm"), ramDisk: filepath.Join(dir, "initrd"), commandLine: commandLine, size: compute.Size{VCPUs: 1, MemoryMiB: MinMemory}}
	if err := errors.Join(os.Mkdir(s.dir, 0o700), os.WriteFile(s.ramDisk, b, 0o600)); err != nil {
		return unavailable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	i := &instance{done: make(chan struct{})}
	if err := i.start(f, s); err != nil {
		return err
	}
	defer i.Kill()
	stop := context.AfterFunc(ctx, func() { _ = i.channel.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var first [1]byte
	if _, err := io.ReadFull(i.channel, first[:]); err != nil {
		i.Kill()
		if _, said := i.Postmortem(); said != "" && ctx.Err() == nil {
			err = errors.New(said)
		}
		return unavailable(fmt.Errorf("a virtual machine was started, and its agent did not speak within %s: %w", probeTime, err))
	}
	return nil
}

// knownFirmware refuses firmware of which no measurement can be computed.
func knownFirmware() error {
	b, err := readBounded(firmwareFile, expect.MaxFirmware)
	if err != nil {
		return err
	}
	return expect.CheckFirmware(b)
}
