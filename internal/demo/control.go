package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/cloister-cc/cloister/compute"
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
	module := printer(c.secret)
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

// printer is a WASI command, as small as one can be, that prints text and a line
// break.
func printer(text []byte) []byte {
	const textAt = 16 // behind the vector and the count that fd_write wants
	line := append(slices.Clone(text), '\n')
	data := binary.LittleEndian.AppendUint32(nil, textAt)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(line)))
	data = append(append(data, make([]byte, textAt-len(data))...), line...)
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, body ...[]byte) []byte {
		b := slices.Concat(body...)
		return append(binary.AppendUvarint([]byte{id}, uint64(len(b))), b...)
	}
	return slices.Concat(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0}), // types: fd_write, _start
		section(2, []byte{1}, name("wasi_snapshot_preview1"), name("fd_write"), []byte{0, 0}),
		section(3, []byte{1, 1}),
		section(5, []byte{1, 0, 1}), // one page of memory
		section(7, []byte{2}, name("memory"), []byte{2, 0}, name("_start"), []byte{0, 1}),
		// fd_write(1, 0, 1, 8); drop
		section(10, []byte{1, 13, 0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a, 0x0b}),
		section(11, []byte{1, 0, 0x41, 0, 0x0b}, binary.AppendUvarint(nil, uint64(len(data))), data),
	)
}
