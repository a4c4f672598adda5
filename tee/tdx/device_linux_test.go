//go:build linux && amd64

package tdx

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestIoctlOfAnotherDevice makes the system call on a device that knows no such
// request.
func TestIoctlOfAnotherDevice(t *testing.T) {
	if ioctlReport != 3<<30|ReportRequestSize<<16|'T'<<8|1 {
		t.Errorf("ioctl %#x", ioctlReport)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	d := &guestDevice{f}
	if err := d.Report(make([]byte, ReportRequestSize)); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("%v, want ENOTTY", err)
	}
	if err := d.Report(nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%v for a short request, want EINVAL", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestConnGivesUp: a socket has deadlines.
func TestConnGivesUp(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	conn, err := connOf(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want a deadline", err)
	}
	if _, err := connOf(-1); err == nil {
		t.Error("a connection of no socket")
	}
}

// TestVsock connects to this machine itself over vsock.
func TestVsock(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialVsock(ctx, unix.VMADDR_CID_LOCAL, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no vsock: %v", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: unix.VMADDR_PORT_ANY}); err != nil {
		t.Skipf("no vsock to this machine itself (modprobe vsock_loopback): %v", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialVsock(t.Context(), unix.VMADDR_CID_LOCAL, sa.(*unix.SockaddrVM).Port)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
