//go:build linux

package software

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// A frame is a length (u32 big endian, 1 to the reader's maximum) and that many
// bytes of deterministic CBOR: a call or an answer. One side calls, the other
// answers each call before it reads the next.

// call is a request. Body is the encoding of the operation's own struct.
type call struct {
	_    struct{} `cbor:",toarray"`
	Op   string
	Body cbor.RawMessage
}

// answer is a response: a failure with a code, or the operation's result.
type answer struct {
	_       struct{} `cbor:",toarray"`
	Failure wireFailure
	Body    cbor.RawMessage
}

// wireFailure is a *tee.Error in transit; an empty code means success.
type wireFailure struct {
	_     struct{} `cbor:",toarray"`
	Code  string
	Cause string
	Hint  string
}

// nothing is the body of operations without parameters or results.
type nothing struct{}

// maxCause is the longest text of a failure that travels, in bytes.
const maxCause = 2 << 10

// failureOf turns an error into its wire form.
func failureOf(err error) wireFailure {
	f := wireFailure{Code: string(tee.CodeUnavailable), Cause: err.Error()}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		f.Code, f.Hint, f.Cause = string(e.Code), e.Hint, ""
		if e.Err != nil {
			f.Cause = e.Err.Error()
		}
	}
	if len(f.Cause) > maxCause {
		f.Cause = f.Cause[:maxCause]
	}
	f.Cause = toValid(f.Cause)
	return f
}

// error returns the failure as the *tee.Error that it was, nil for success.
func (f wireFailure) error(op string) error {
	if f.Code == "" {
		return nil
	}
	return &tee.Error{Code: tee.Code(f.Code), Op: op, Hint: f.Hint, Err: errors.New(f.Cause)}
}

// writeFrame writes one frame with a single Write.
func writeFrame(w io.Writer, body []byte) error {
	_, err := w.Write(frame(body))
	return err
}

func frame(body []byte) []byte {
	b := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(b, uint32(len(body)))
	return append(b, body...)
}

// readFrame reads one frame of at most maxFrame bytes. At the end of the stream it
// returns io.EOF, within a frame io.ErrUnexpectedEOF.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	return readBody(r, head, maxFrame)
}

func readBody(r io.Reader, head [4]byte, max int) ([]byte, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(max) {
		return nil, fmt.Errorf("frame of %d bytes, want 1 to %d", n, max)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}

// sendFile writes one frame and, when file is not nil, passes the file along
// with its first byte (SCM_RIGHTS, unix(7)).
func sendFile(c *net.UnixConn, body []byte, file *os.File) error {
	if file == nil {
		return writeFrame(c, body)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	b := frame(body)
	var n int
	var sendErr error
	// Control keeps the descriptor open, and does not make it blocking as Fd would.
	if err := raw.Control(func(fd uintptr) {
		n, _, sendErr = c.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return err
	}
	if sendErr != nil || n == len(b) {
		return sendErr // writing nothing more could fail: the peer may be done already
	}
	_, err = c.Write(b[n:])
	return err
}

// receiveFile reads one frame and the file that came with it, nil if none. More
// than one file is refused; files that are refused are closed.
func receiveFile(c *net.UnixConn, max int) ([]byte, *os.File, error) {
	var head [4]byte
	control := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(head[:], control)
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, io.EOF
	}
	file, err := receivedFile(control[:oobn])
	if err != nil {
		return nil, nil, err
	}
	body, err := func() ([]byte, error) {
		if flags&unix.MSG_CTRUNC != 0 {
			return nil, errors.New("too much control data")
		}
		if _, err := io.ReadFull(c, head[n:]); err != nil {
			return nil, err
		}
		return readBody(c, head, max)
	}()
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, err
	}
	return body, file, nil
}

// receivedFile takes at most one file out of control data.
func receivedFile(control []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("parse control data: %w", err)
	}
	var all []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // other kinds of control data carry no descriptors
		}
		all = append(all, fds...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	if len(all) > 1 {
		for _, fd := range all {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("%d files in one frame, at most 1", len(all))
	}
	return os.NewFile(uintptr(all[0]), "received"), nil
}
