// Package tap records what passes between the processes of a platform, byte by
// byte, as its untrusted host sees it. `cloister up --record-traffic` uses it,
// so that anybody can search the recording for what should not be there.
//
// # What it protects against
//
// Taking the word of this program for what the host learns: the recording is
// made where the host's own processes read and write.
//
// # What it does not protect against
//
// Nothing is hidden by it. Recordings hold what the host could have kept anyway:
// ciphertext, images, names, sizes and times.
package tap

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Dir is a directory that recordings go to; the empty one records nothing.
// Each stream gets two files, NAME.PID.N.in and NAME.PID.N.out, made with their
// first byte: what the recording process read, and what it wrote.
type Dir string

// sequence numbers the streams of this process.
var sequence atomic.Uint64

// Stream returns s with a recording of it.
func (d Dir) Stream(name string, s io.ReadWriteCloser) io.ReadWriteCloser {
	if d == "" {
		return s
	}
	in, out := d.files(name)
	return &stream{ReadWriteCloser: s, in: in, out: out}
}

// Conn returns c with a recording of it.
func (d Dir) Conn(name string, c net.Conn) net.Conn {
	if d == "" {
		return c
	}
	in, out := d.files(name)
	return &conn{Conn: c, in: in, out: out}
}

// Frames returns two writers for a protocol that is read and written in whole
// messages: write each received one to in, each sent one to out.
func (d Dir) Frames(name string) (in, out io.Writer) {
	if d == "" {
		return io.Discard, io.Discard
	}
	i, o := d.files(name)
	return i, o
}

func (d Dir) files(name string) (in, out *file) {
	base := filepath.Join(string(d), fmt.Sprintf("%s.%d.%d", name, os.Getpid(), sequence.Add(1)))
	return &file{path: base + ".in"}, &file{path: base + ".out"}
}

type stream struct {
	io.ReadWriteCloser
	in, out *file
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(b)
	s.in.record(b[:n])
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	s.out.record(b)
	return s.ReadWriteCloser.Write(b)
}

func (s *stream) Close() error {
	s.in.close()
	s.out.close()
	return s.ReadWriteCloser.Close()
}

type conn struct {
	net.Conn
	in, out *file
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.record(b[:n])
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.out.record(b)
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.in.close()
	c.out.close()
	return c.Conn.Close()
}

// CloseWrite ends one direction, where the connection can.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Conn.Close()
}

// file is one direction of one stream.
type file struct {
	path string

	mu     sync.Mutex
	f      *os.File
	failed bool
}

// Write implements io.Writer; it never fails, so that a recording that cannot
// be made does not end what it records.
func (w *file) Write(b []byte) (int, error) {
	w.record(b)
	return len(b), nil
}

// record appends b. A disk that refuses ends the recording of this stream with
// a file that says so: a hunt must not take silence for innocence.
func (w *file) record(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(b) == 0 || w.failed {
		return
	}
	if w.f == nil {
		var err error
		if w.f, err = os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			w.fail(err)
			return
		}
	}
	if _, err := w.f.Write(b); err != nil {
		w.fail(err)
	}
}

// Incomplete is the ending of files that stand beside a recording with gaps.
const Incomplete = ".incomplete"

func (w *file) fail(err error) {
	w.failed = true
	_ = os.WriteFile(w.path+Incomplete, []byte(err.Error()), 0o600)
}

// close ends the recording; a late byte opens the file again.
func (w *file) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f != nil {
		_ = w.f.Close()
		w.f = nil
	}
}
