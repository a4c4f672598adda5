package tdx_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// device is the driver and a host with a quoting service that takes requests of
// exactly these bytes.
type device struct {
	t        *testing.T
	platform *dcaptest.Platform
	err      error
	report   func([]byte)        // changes the TDREPORT
	body     func([]byte)        // changes what is quoted
	response func([]byte) []byte // changes the message
	silent   func()              // what the service does instead of an answer
	nobody   bool                // there is no service
	closed   bool
}

func (d *device) Report(request []byte) error {
	if d.err != nil {
		return d.err
	}
	if len(request) != 1088 || !bytes.Equal(request[64:], make([]byte, 1024)) {
		d.t.Errorf("request of %d bytes, want 1088: report data and room", len(request))
	}
	request[64] = 0x81 // REPORTTYPE: a TD
	copy(request[64+128:], request[:64])
	if d.report != nil {
		d.report(request[64:])
	}
	return nil
}

func (d *device) Dial(context.Context) (tdx.Conn, error) {
	if d.nobody {
		return nil, syscall.ENODEV
	}
	guest, host := net.Pipe()
	go d.serve(host)
	return guest, nil
}

// serve is a quoting service.
func (d *device) serve(conn net.Conn) {
	defer conn.Close()
	request := make([]byte, 4+24+1024)
	if _, err := io.ReadFull(conn, request); err != nil {
		d.t.Error(err)
		return
	}
	want := []byte("\x00\x00\x04\x18" + "\x01\x00\x00\x00" + "\x00\x00\x00\x00" + "\x18\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00")
	if !bytes.Equal(request[:28], want) {
		d.t.Errorf("request %x, want %x", request[:28], want)
	}
	if d.silent != nil {
		d.silent()
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	body := dcaptest.TDBody(dcap.TD10Body)
	copy(body[520:], request[28+128:][:64])
	if d.body != nil {
		d.body(body)
	}
	b := response(0, nil, d.platform.Quote(d.t, dcaptest.QuoteOptions{Type: dcap.TD10Body, Body: body}))
	if d.response != nil {
		b = d.response(b)
	}
	_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

func (d *device) Close() error {
	d.closed = true
	return nil
}

// response is a message of the service.
func response(code uint32, id, quote []byte) []byte {
	le := binary.LittleEndian
	b := []byte{1, 0, 1, 0, 1, 0, 0, 0}
	b = le.AppendUint32(b, uint32(24+len(id)+len(quote)))
	b = le.AppendUint32(b, code)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(id))), uint32(len(quote)))
	return append(append(b, id...), quote...)
}

// TestDeviceAttester gets a quote from a driver and a service, and verifies it.
func TestDeviceAttester(t *testing.T) {
	intel := dcaptest.New(t)
	d := &device{t: t, platform: intel.Platform(t, dcaptest.PlatformOptions{})}
	log := filepath.Join(t.TempDir(), "CCEL")
	a := tdx.NewDeviceAttester(d, log)
	ev, err := a.Evidence(t.Context(), [64]byte{7})
	if err != nil || ev.Kind != tee.TDX || a.Kind() != tee.TDX || ev.EventLog != nil {
		t.Fatal(ev.Kind, err)
	}
	claims, _, err := tdx.New().Verify(ev, intel.Input(t, dcaptest.CollateralOptions{TDX: true}))
	if err != nil || claims.ReportData[0] != 7 {
		t.Errorf("%v, %v", claims, err)
	}
	if err := os.WriteFile(log, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.response = func(b []byte) []byte { return response(0, []byte("id of a key"), b[24:]) }
	if ev, err = a.Evidence(t.Context(), [64]byte{}); err != nil || string(ev.EventLog) != "log" {
		t.Errorf("log %q, %v", ev.EventLog, err)
	}
	if err := a.Close(); err != nil || !d.closed {
		t.Error(err)
	}
}

func TestDeviceAttesterRefuses(t *testing.T) {
	p := dcaptest.New(t).Platform(t, dcaptest.PlatformOptions{})
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at:], v)
			return b
		}
	}
	for name, d := range map[string]*device{
		"driver fails":         {err: syscall.EIO},
		"other TDREPORT":       {report: func(b []byte) { b[128] ^= 1 }},
		"no service":           {nobody: true},
		"other report data":    {body: func(b []byte) { b[520] ^= 1 }},
		"error":                {response: func([]byte) []byte { return response(0x12001, nil, nil) }},
		"error beside a quote": {response: put(12, 1)},
		"other type":           {response: put(4, 3)},
		"other version":        {response: put(0, 2)},
		"other size":           {response: put(8, 1)},
		"wrapped sizes":        {response: put(16, 0xFFFFFFF0)},
		"empty quote":          {response: func([]byte) []byte { return response(0, nil, nil) }},
		"no quote":             {response: func([]byte) []byte { return response(0, nil, []byte("quote")) }},
		"short":                {response: func(b []byte) []byte { return b[:23] }},
		"large":                {response: func([]byte) []byte { return make([]byte, 66<<10) }},
	} {
		t.Run(name, func(t *testing.T) {
			d.t, d.platform = t, p
			unavailable(t, tdx.NewDeviceAttester(d, filepath.Join(t.TempDir(), "none")))
		})
	}
}

// TestDeviceAttesterGivesUp: a service that says nothing does not hold up a caller
// who has no time.
func TestDeviceAttesterGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &device{t: t, silent: cancel}
	_, err := tdx.NewDeviceAttester(d, "").Evidence(ctx, [64]byte{})
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// TestOpenDevice is about a machine that is no TD, mostly.
func TestOpenDevice(t *testing.T) {
	a, err := tdx.OpenDevice()
	if err == nil {
		_ = a.Close()
		t.Skip("this is a TD; tests leave its device alone")
	}
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func FuzzQuoteResponse(f *testing.F) {
	f.Add(response(0, nil, []byte("quote")))
	f.Add(response(0, []byte("id"), []byte("quote")))
	f.Add(response(1, nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		quote, err := tdx.ParseQuoteResponse(b)
		if err == nil && (len(quote) == 0 || len(quote) > tee.MaxEvidence || !bytes.HasSuffix(b, quote)) || err != nil && quote != nil {
			t.Fatalf("quote %x, error %v", quote, err)
		}
	})
}
