package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/tee/launch"
)

// control is a secret that is given away on purpose, in every kind of place that
// the hunt searches.
type control struct {
	secret []byte
	child  *exec.Cmd
	stdin  io.Closer
}

// ControlCommand is the hidden command of this binary that carries a planted
// secret on its command line and in its environment, as a careless host process
// would: demo-control SECRET.
const ControlCommand = "demo-control"

// ControlMain waits until its standard input ends.
func ControlMain() int {
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// plant runs a program that contains the secret and prints it, with the secret
// as an argument: so it lies on the host's disk, in its processes' memory, in its
// logs and in what passes between them. A child process carries it in the rest.
func plant(ctx context.Context, h *host) (*control, error) {
	b := make([]byte, 18)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	c := &control{secret: []byte("control" + base64.RawURLEncoding.EncodeToString(b))}
	module := tinywasm.Print(string(c.secret))
	doc := launch.New(launch.Wasm, module)
	doc.Args = []string{string(c.secret)}
	i, err := h.run(ctx, job{name: "control", doc: doc, image: module})
	if err != nil {
		return nil, err
	}
	if i.Status.State != compute.Stopped {
		return nil, errors.New("the control program failed: " + i.Status.Message)
	}
	c.child = exec.Command("/proc/self/exe", ControlCommand, string(c.secret))
	c.child.Args[0] = "cloister"
	c.child.Env = []string{"PLANTED=" + string(c.secret)}
	if c.stdin, err = c.child.StdinPipe(); err != nil {
		return nil, err
	}
	return c, c.child.Start()
}

func (c *control) close() {
	if c.child != nil && c.child.Process != nil {
		_ = c.stdin.Close()
		_ = c.child.Wait()
	}
}
