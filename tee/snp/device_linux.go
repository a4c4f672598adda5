//go:build linux && amd64

package snp

import (
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/tee"
)

// guestRequest is struct snp_guest_request_ioctl: a message version, where the
// request and the response are, and exitinfo2.
type guestRequest struct {
	version  uint8
	_        [7]byte
	request  *byte
	response *byte
	exitInfo uint64
}

// guestDevice is the driver of the kernel.
type guestDevice struct{ f *os.File }

// OpenDevice returns an attester that uses the driver of this guest. The error is
// a *tee.Error with CodeUnavailable: this is no guest of SEV-SNP, or the process
// may not use the device.
func OpenDevice() (*DeviceAttester, error) {
	f, err := os.OpenFile(DevicePath, os.O_RDWR, 0)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open the device of SEV-SNP", Err: err, Hint: "inside a guest of SEV-SNP: modprobe sev-guest, and run as root; elsewhere there is none"}
	}
	return NewDeviceAttester(&guestDevice{f}), nil
}

// Ioctl implements [Device].
func (d *guestDevice) Ioctl(c Command, request, response, certificates []byte) (uint64, error) {
	if len(response) != deviceResponseSize || len(request) != requestSize && len(request) != extendedRequestSize {
		return 0, unix.EINVAL
	}
	var pins runtime.Pinner // the kernel follows the pointers in what it is given
	defer pins.Unpin()
	pins.Pin(&request[0])
	pins.Pin(&response[0])
	if len(certificates) > 0 && len(request) == extendedRequestSize {
		pins.Pin(&certificates[0])
		//nolint:gosec // the kernel's ABI takes an address, and what is there is pinned
		binary.LittleEndian.PutUint64(request[requestSize:], uint64(uintptr(unsafe.Pointer(&certificates[0]))))
	}
	m := &guestRequest{version: 1, request: &request[0], response: &response[0]}
	//nolint:gosec // the kernel's ABI takes pointers
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), uintptr(c), uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return m.exitInfo, os.NewSyscallError("ioctl", errno)
	}
	return m.exitInfo, nil
}

// Close implements [Device].
func (d *guestDevice) Close() error { return d.f.Close() }
