//go:build linux

// Package unixsock listens on and connects to unix sockets whose paths may be
// longer than the 107 bytes of unix(7), and tells who is at the other end.
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path that fits sun_path with its final zero
// byte (unix(7)).
const maxSocketPath = 107

// ErrInUse means that another process listens at the path.
var ErrInUse = errors.New("another process listens there")

// Listen listens on a unix socket at path, which may be longer than the 107
// bytes that unix(7) allows. A socket that a dead process left there is
// replaced; one that still answers is [ErrInUse]. The file has mode 0600
// and stays after Close, when connecting to it is refused.
func Listen(path string) (*net.UnixListener, error) {
	fail := func(err error) (*net.UnixListener, error) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	address, release, err := shortAddress(path)
	if err != nil {
		return fail(err)
	}
	defer release()
	if st, err := os.Lstat(address); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return fail(errors.New("the path exists and is not a socket"))
		}
		c, err := net.DialTimeout("unix", address, time.Second)
		if err == nil {
			_ = c.Close()
			return fail(ErrInUse)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fail(err)
		}
		if err := os.Remove(address); err != nil {
			return fail(err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	// The address goes through a descriptor that is closed on return; unlinking
	// it later could hit another directory.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(address, 0o600); err != nil {
		return fail(errors.Join(err, l.Close()))
	}
	return l, nil
}

// Dial connects to the unix socket at path, of any length.
func Dial(ctx context.Context, path string) (*net.UnixConn, error) {
	address, release, err := shortAddress(path)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return c.(*net.UnixConn), nil
}

// shortAddress returns an address for path that fits a socket address: the path
// itself, or a detour through a descriptor of its directory, which must stay
// open until release.
func shortAddress(path string) (address string, release func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	address = fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path))
	if len(address) > maxSocketPath {
		_ = unix.Close(fd)
		return "", nil, fmt.Errorf("socket name %q is too long", filepath.Base(path))
	}
	return address, func() { _ = unix.Close(fd) }, nil
}

// SamePeer refuses a peer that runs under another user (SO_PEERCRED, unix(7)).
func SamePeer(c *net.UnixConn) error {
	cred, err := credentials(c)
	if err != nil {
		return err
	}
	return allowedUID(cred.Uid, os.Geteuid())
}

// PeerPID returns the process at the other end: of a listener, the one that
// made it.
func PeerPID(c *net.UnixConn) (int, error) {
	cred, err := credentials(c)
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

func credentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if credErr != nil {
		return nil, fmt.Errorf("read peer credentials: %w", credErr)
	}
	return cred, nil
}

func allowedUID(peer uint32, own int) error {
	if int64(peer) != int64(own) {
		return fmt.Errorf("peer runs as uid %d, we as %d", peer, own)
	}
	return nil
}
