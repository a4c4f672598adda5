//go:build linux && amd64

package tdx

import (
	"context"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/tee"
)

// ioctlReport is TDX_CMD_GET_REPORT0, _IOWR('T', 1, struct tdx_report_req) with
// 1088 bytes (Linux, include/uapi/linux/tdx-guest.h).
const ioctlReport = 0xC4405401

// guestDevice is the driver of the kernel, and vsock.
type guestDevice struct{ f *os.File }

// OpenDevice returns an attester that uses the driver of this TD, and the quoting
// service on [QGSPort]. The error is a *tee.Error with CodeUnavailable: this is no
// TD, or the process may not use the device.
func OpenDevice() (*DeviceAttester, error) {
	f, err := os.OpenFile(DevicePath, os.O_RDWR, 0)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open the device of TDX", Err: err, Hint: "inside a TD: modprobe tdx-guest, and run as root; elsewhere there is none"}
	}
	return NewDeviceAttester(&guestDevice{f}, ""), nil
}

// Report implements [Device].
func (d *guestDevice) Report(request []byte) error {
	if len(request) != ReportRequestSize {
		return unix.EINVAL
	}
	//nolint:gosec // the kernel's ABI takes a pointer
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), ioctlReport, uintptr(unsafe.Pointer(&request[0])))
	if errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

// Dial implements [Device].
func (d *guestDevice) Dial(ctx context.Context) (Conn, error) {
	return dialVsock(ctx, unix.VMADDR_CID_HOST, QGSPort)
}

// connectTimeout bounds a connection to a host that does not answer.
const connectTimeout = 5 * time.Second

// dialVsock connects to a port.
func dialVsock(ctx context.Context, cid, port uint32) (Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	timeout := unix.NsecToTimeval(connectTimeout.Nanoseconds())
	err = os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout))
	if err == nil {
		err = os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return connOf(fd)
}

// connOf makes a connection of a socket, and closes it if it cannot. It is
// non-blocking, so that Go's poller watches it and it has deadlines.
func connOf(fd int) (Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("set non-blocking", err)
	}
	return os.NewFile(uintptr(fd), "vsock"), nil
}

// Close implements [Device].
func (d *guestDevice) Close() error { return d.f.Close() }
