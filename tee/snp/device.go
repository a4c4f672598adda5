package snp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// DevicePath is where the kernel of a guest shows the driver that asks AMD's
// secure processor.
const DevicePath = "/dev/sev-guest"

// Command is a request that [Device] knows, by the number of its ioctl (Linux,
// include/uapi/linux/sev-guest.h).
type Command uint32

// The requests: both are _IOWR('S', n, struct snp_guest_request_ioctl), which has
// 32 bytes.
const (
	GetReport         Command = 0xC0205300 // SNP_GET_REPORT
	GetExtendedReport Command = 0xC0205302 // SNP_GET_EXT_REPORT
)

// What a request and its answer look like.
const (
	requestSize         = 96               // struct snp_report_req: report data, VMPL, zeroes
	extendedRequestSize = requestSize + 16 // struct snp_ext_report_req: where the certificates go, their length, padding
	offCertsLength      = requestSize + 8  // the kernel writes how much it needs
	deviceResponseSize  = 4000             // struct snp_report_resp
	offDeviceReport     = 32               // MSG_REPORT_RSP: status, size, reserved, report
	pageSize            = 4 << 10          // room for certificates comes in pages
	deviceTableSize     = 4 * pageSize     // all that today's kernels take (SEV_FW_BLOB_MAX_SIZE)
)

// errTableSpace is the VMM's error when its certificates need more room
// (SNP_GUEST_VMM_ERR_INVALID_LEN), in the upper half of exitinfo2.
const errTableSpace = 1

// Device is the driver. [OpenDevice] has the real one; tests give their own.
type Device interface {
	// Ioctl makes one request with message version 1. request is a struct
	// snp_report_req or snp_ext_report_req, where the address of the certificates
	// is zero: it is that of certificates, if there are any. response is a struct
	// snp_report_resp. The kernel may change all three. The result is exitinfo2,
	// which says why a request failed.
	Ioctl(c Command, request, response, certificates []byte) (exitInfo uint64, err error)
	io.Closer
}

// DeviceAttester gets attestation reports from /dev/sev-guest, for kernels that
// have no configfs-tsm (before Linux 6.7) or do not let this process use it. It is
// safe for concurrent use; requests take turns. A host that is asked too often
// makes a request wait, for up to a minute, and a context does not end it.
type DeviceAttester struct {
	mu     sync.Mutex
	device Device
}

// NewDeviceAttester returns an attester that uses a device, and closes it when it
// is closed.
func NewDeviceAttester(d Device) *DeviceAttester { return &DeviceAttester{device: d} }

// Kind is tee.SNP.
func (a *DeviceAttester) Kind() tee.Kind { return tee.SNP }

// Close closes the device.
func (a *DeviceAttester) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.device.Close()
}

// Evidence returns a report over reportData of privilege level 0, with the
// certificates that the host gave the guest, if any, as [Attester.Evidence] does.
// The error is a *tee.Error with CodeUnavailable.
func (a *DeviceAttester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	const op = "get a report from " + DevicePath
	if err := ctx.Err(); err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	report, table, err := a.extended(reportData)
	if err != nil {
		// The host or the kernel has no certificates to give; a report alone is
		// evidence all the same.
		var plain error
		if report, plain = a.plain(reportData); plain != nil {
			return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: errors.Join(plain, err)}
		}
	}
	certs, err := ParseCertificateTable(table)
	if err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err, Hint: "the host gave the guest a malformed certificate table"}
	}
	return tee.Evidence{Kind: tee.SNP, Data: report, Certificates: certs}, nil
}

// plain asks for a report without certificates.
func (a *DeviceAttester) plain(reportData [64]byte) ([]byte, error) {
	request, response := make([]byte, requestSize), make([]byte, deviceResponseSize)
	copy(request, reportData[:])
	info, err := a.device.Ioctl(GetReport, request, response, nil)
	if err != nil {
		return nil, deviceError(info, err)
	}
	return readDeviceResponse(response, reportData)
}

// extended asks for a report with certificates, once more if the host says how
// much room they need.
func (a *DeviceAttester) extended(reportData [64]byte) (report, table []byte, err error) {
	for size := deviceTableSize; ; {
		request, response := make([]byte, extendedRequestSize), make([]byte, deviceResponseSize)
		copy(request, reportData[:])
		binary.LittleEndian.PutUint32(request[offCertsLength:], uint32(size))
		table = make([]byte, size)
		info, err := a.device.Ioctl(GetExtendedReport, request, response, table)
		if err == nil {
			report, err = readDeviceResponse(response, reportData)
			return report, table, err
		}
		needed := int64(binary.LittleEndian.Uint32(request[offCertsLength:]))
		if info>>32 != errTableSpace || needed <= int64(size) || needed > maxTable || needed%pageSize != 0 {
			return nil, nil, deviceError(info, err)
		}
		size = int(needed) // grows each time, and has a bound
	}
}

// deviceError adds what the secure processor or the VMM said.
func deviceError(info uint64, err error) error {
	return fmt.Errorf("%w (firmware error %#x, VMM error %#x)", err, uint32(info), info>>32)
}

// readDeviceResponse takes the report out of an answer of the secure processor
// (56860, table "MSG_REPORT_RSP Message Structure") and compares its report data.
func readDeviceResponse(b []byte, reportData [64]byte) ([]byte, error) {
	if len(b) < offDeviceReport+ReportSize {
		return nil, fmt.Errorf("response of %d bytes", len(b))
	}
	if status := binary.LittleEndian.Uint32(b); status != 0 {
		return nil, fmt.Errorf("the secure processor says status %#x", status)
	}
	if size := binary.LittleEndian.Uint32(b[4:]); size != ReportSize {
		return nil, fmt.Errorf("report of %d bytes, want %d", size, ReportSize)
	}
	report := bytes.Clone(b[offDeviceReport : offDeviceReport+ReportSize])
	if !bytes.Equal(report[offReportData:offReportData+64], reportData[:]) {
		return nil, errors.New("the report is over other report data")
	}
	return report, nil
}

// Interface guard.
var _ tee.Attester = (*DeviceAttester)(nil)
