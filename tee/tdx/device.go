package tdx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
)

// DevicePath is where the kernel of a TD shows the driver that asks the TDX
// module.
const DevicePath = "/dev/tdx_guest"

// ReportRequestSize is the size in bytes of struct tdx_report_req (Linux,
// include/uapi/linux/tdx-guest.h): 64 of report data and a TDREPORT.
const ReportRequestSize = 64 + tdReportSize

// A TDREPORT ("TDX Module ABI Specification", TDREPORT_STRUCT). Its MAC can be
// checked on its own machine only.
const (
	tdReportSize    = 1024
	offTDReportData = 128
)

// quoteTimeout bounds how long a quoting service may take. QEMU gives it as long.
const quoteTimeout = 30 * time.Second

// Device is the driver and the way to the host's quoting service. [OpenDevice] has
// the real ones; tests give their own.
type Device interface {
	// Report makes the ioctl TDX_CMD_GET_REPORT0 with a struct tdx_report_req,
	// ReportRequestSize bytes, into which the kernel writes the TDREPORT.
	Report(request []byte) error
	// Dial connects to the quoting service of the host.
	Dial(ctx context.Context) (Conn, error)
	io.Closer
}

// Conn is a connection to the quoting service.
type Conn interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// DeviceAttester gets quotes with a TDREPORT from /dev/tdx_guest and the host's
// quoting service over vsock, for kernels that have no configfs-tsm (before Linux
// 6.7) or whose host answers only there. It is safe for concurrent use.
type DeviceAttester struct {
	mu     sync.Mutex // of the device; the service takes many at once
	device Device
	// eventLog is as Attester.EventLog.
	eventLog string
}

// NewDeviceAttester returns an attester that uses a device, and closes it when it
// is closed. eventLog is the file of the event log; empty is the kernel's.
func NewDeviceAttester(d Device, eventLog string) *DeviceAttester {
	return &DeviceAttester{device: d, eventLog: eventLog}
}

// Kind is tee.TDX.
func (a *DeviceAttester) Kind() tee.Kind { return tee.TDX }

// Close closes the device.
func (a *DeviceAttester) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.device.Close()
}

// Evidence returns a quote over reportData, with the event log where there is
// one. It waits for the quoting service for 30 seconds, or as long as the context
// lasts. The error is a *tee.Error with CodeUnavailable.
func (a *DeviceAttester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	unavailable := func(err error, hint string) (tee.Evidence, error) {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "get a quote with " + DevicePath, Err: err, Hint: hint}
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err, "")
	}
	report, err := a.report(reportData)
	if err != nil {
		return unavailable(err, "")
	}
	quote, err := a.quote(ctx, report)
	if err != nil {
		return unavailable(err, "the host's quoting service (QGS) has to listen on vsock port 4050")
	}
	q, err := dcap.ParseQuote(quote)
	if err != nil {
		return unavailable(err, "")
	}
	body, err := ParseReport(q.Body)
	if err != nil || !bytes.Equal(body.ReportData, reportData[:]) {
		return unavailable(errors.Join(errors.New("the quote is over other report data"), err), "")
	}
	log, err := Attester{EventLog: a.eventLog}.eventLog()
	if err != nil {
		return unavailable(err, "")
	}
	return tee.Evidence{Kind: tee.TDX, Data: quote, EventLog: log}, nil
}

// report asks the TDX module for a TDREPORT.
func (a *DeviceAttester) report(reportData [64]byte) ([]byte, error) {
	request := make([]byte, ReportRequestSize)
	copy(request, reportData[:])
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.device.Report(request); err != nil {
		return nil, err
	}
	report := request[len(reportData):]
	if !bytes.Equal(report[offTDReportData:offTDReportData+64], reportData[:]) {
		return nil, errors.New("the TDREPORT is over other report data")
	}
	return report, nil
}

// quote has the host's quoting service turn a TDREPORT into a quote.
func (a *DeviceAttester) quote(ctx context.Context, report []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, quoteTimeout)
	defer cancel()
	conn, err := a.device.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("quoting service: %w", err)
	}
	// A context that ends makes what is under way on the connection fail.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	quote, err := exchangeQuote(conn, report)
	stop()
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("quoting service: %w", errors.Join(err, ctx.Err()))
	}
	return quote, nil
}

// Interface guard.
var _ tee.Attester = (*DeviceAttester)(nil)
