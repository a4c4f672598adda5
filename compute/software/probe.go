package software

import (
	"context"
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/tee"
)

// Probe builds a sandbox, tries to get out of it, and reports which walls this
// host offers.
func (d *Driver) Probe(ctx context.Context) compute.Capability {
	c := compute.Capability{TEE: tee.Software, Simulated: true}
	dir, err := os.MkdirTemp("", "cloister-probe-")
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report, err := sandbox.Probe(ctx, dir)
	if err != nil {
		c.Detail = err.Error()
		c.Hint = "the kernel must allow user namespaces, Landlock or seccomp to this user"
		return c
	}
	c.Available = true
	c.Walls, c.Missing = sandbox.Strings(report.Applied), sandbox.Strings(report.Missing)
	c.Detail = fmt.Sprintf("a sandboxed child ran behind %d of %d walls and could not get out; protects the host from the enclave, not the enclave from the host",
		len(report.Applied), len(report.Applied)+len(report.Missing))
	return c
}
