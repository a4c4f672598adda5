//go:build linux

package nitro

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

// DevicePath is where an enclave's kernel shows the NSM.
const DevicePath = "/dev/nsm"

// ioctlRaw is NSM_IOCTL_RAW, _IOWR(0x0A, 0x0, struct nsm_raw) with 32 bytes
// (Linux, include/uapi/linux/nsm.h). AWS's own older driver has the same.
const ioctlRaw = 0xC0200A00

// rawMessage is struct nsm_raw: where the request is and how long, and the same
// for the response. The kernel writes the response's length.
type rawMessage struct {
	request        *byte
	requestLength  uint64
	response       *byte
	responseLength uint64
}

// device is the NSM of the kernel.
type device struct{ f *os.File }

// Open returns an attester that uses the NSM of this enclave. The error is a
// *tee.Error with CodeUnavailable: this is no Nitro Enclave, or its kernel has no
// driver.
func Open() (*Attester, error) {
	f, err := os.OpenFile(DevicePath, os.O_RDWR, 0)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open NSM", Err: err, Hint: "run inside a Nitro Enclave"}
	}
	return NewAttester(&device{f}), nil
}

// Exchange makes one ioctl.
func (d *device) Exchange(request []byte) ([]byte, error) {
	if len(request) == 0 || len(request) > MaxNSMRequest {
		return nil, fmt.Errorf("request of %d bytes, at most %d", len(request), MaxNSMRequest)
	}
	response := make([]byte, MaxNSMResponse)
	m := &rawMessage{request: &request[0], requestLength: uint64(len(request)), response: &response[0], responseLength: MaxNSMResponse}
	var pins runtime.Pinner // the kernel follows the pointers inside m
	defer pins.Unpin()
	pins.Pin(m.request)
	pins.Pin(m.response)
	//nolint:gosec // the kernel's ABI takes pointers
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), ioctlRaw, uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return nil, os.NewSyscallError("ioctl", errno)
	}
	if m.responseLength > MaxNSMResponse {
		return nil, fmt.Errorf("response of %d bytes", m.responseLength)
	}
	return response[:m.responseLength], nil
}

// Close closes the device.
func (d *device) Close() error { return d.f.Close() }
