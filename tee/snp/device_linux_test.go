//go:build linux && amd64

package snp

import (
	"errors"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestRequestLayout compares the structures with those of the kernel's header.
func TestRequestLayout(t *testing.T) {
	var m guestRequest
	if unsafe.Sizeof(m) != 32 || unsafe.Offsetof(m.request) != 8 || unsafe.Offsetof(m.response) != 16 || unsafe.Offsetof(m.exitInfo) != 24 {
		t.Error("struct snp_guest_request_ioctl is laid out otherwise")
	}
	if number := uint32(GetExtendedReport); number != 3<<30|uint32(unsafe.Sizeof(m))<<16|'S'<<8|2 {
		t.Errorf("ioctl %#x", number)
	}
	if extendedRequestSize != 112 || offCertsLength != 104 {
		t.Error("struct snp_ext_report_req is laid out otherwise")
	}
}

// TestIoctlOfAnotherDevice makes the system call on a device that knows no such
// request.
func TestIoctlOfAnotherDevice(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	d := &guestDevice{f}
	request := make([]byte, extendedRequestSize)
	if _, err := d.Ioctl(GetExtendedReport, request, make([]byte, deviceResponseSize), make([]byte, pageSize)); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("%v, want ENOTTY", err)
	}
	if request[requestSize] == 0 && request[requestSize+1] == 0 && request[requestSize+4] == 0 {
		t.Error("the address of the certificates is not in the request")
	}
	if _, err := d.Ioctl(GetReport, request[:95], make([]byte, deviceResponseSize), nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%v for a short request, want EINVAL", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
