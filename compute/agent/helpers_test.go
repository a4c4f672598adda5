package agent

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newAgent is an agent behind no walls; host answers what it asks of its host.
func newAgent(t testing.TB, host func(link.Request, net.Conn)) *agent {
	t.Helper()
	inside, outside := net.Pipe()
	a := &agent{start: make(chan call.Start, 1), ended: make(chan struct{}), secrets: map[string][]byte{}, doc: launch.New(launch.Wasm, []byte("image"))}
	a.paths = sandbox.Paths{Work: t.TempDir(), App: t.TempDir()}
	var err error
	if a.link, err = link.New(inside, false); err != nil {
		t.Fatal(err)
	}
	l, err := link.New(outside, true)
	if err != nil {
		t.Fatal(err)
	}
	if a.vault, err = newVault(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		l.Serve(func(r link.Request, c net.Conn) {
			defer func() { _ = c.Close() }()
			host(r, c)
		})
	})
	t.Cleanup(func() { _ = a.link.Close(); _ = l.Close(); wg.Wait() })
	return a
}

// onTEE gives the agent a device of a platform, as its launch did.
func (a *agent) onTEE(t testing.TB, p *softwaretest.Platform, d launch.Document, image []byte) {
	t.Helper()
	device := p.Device(t, d, image, nil)
	a.tee, a.doc = softwareTEE{device}, d
	info := device.Info()
	a.trust = compute.Node{Root: info.RootCertificate, Runtime: info.RuntimeDigest[:]}
	a.identity = call.Identity{
		TEE: tee.Software, Simulated: true, Measurement: info.Measurement, LaunchDigest: info.LaunchDigest[:],
		InstanceID: info.InstanceID, RuntimeDigest: info.RuntimeDigest[:], Root: info.RootCertificate,
	}
}

// runs gives the agent a shell command as its program.
func (a *agent) runs(t testing.TB, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	in, err := cmd.StdinPipe() // open until the test ends: `read` waits on it
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	a.program = newProgram()
	a.program.cmd = cmd
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func newProgram() *program {
	return &program{listened: map[uint16]bool{}, changed: make(chan struct{})}
}

// give is a host that answers each request with the content for its op and name.
func give(files map[string]string) func(link.Request, net.Conn) {
	return func(r link.Request, c net.Conn) {
		content, ok := files[string(r.Op)+" "+r.Name]
		if !ok {
			link.Refuse(c, "not given")
			return
		}
		if link.Accept(c, int64(len(content))) == nil {
			_, _ = io.WriteString(c, content)
		}
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
