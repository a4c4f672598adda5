package snp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// device is the driver /dev/sev-guest with the kernel's rules
// (drivers/virt/coco/sev-guest/sev-guest.c): it takes requests of exactly these
// bytes, certificates in whole pages and no more than limit, and after an error
// that is not about room it answers nothing any more, for it dropped its key.
type device struct {
	tb           testing.TB
	key          *snptest.Key
	certificates []byte
	limit        int
	dead, closed bool
	plain        int // requests without certificates
	asked        []int
	change       func(response []byte)
	err          error
}

func (d *device) Ioctl(c snp.Command, request, response, certificates []byte) (uint64, error) {
	switch {
	case d.closed:
		return 0, os.ErrClosed
	case d.dead:
		return 0xFF, syscall.ENOTTY
	case len(response) != 4000:
		d.tb.Errorf("response of %d bytes, want 4000", len(response))
	}
	reportData := request[:64]
	if !bytes.Equal(request[64:96], make([]byte, 32)) {
		d.tb.Errorf("request %x: VMPL and reserved bytes are zero", request)
	}
	if d.err != nil {
		d.dead = true
		return 0xFF, d.err
	}
	switch c {
	case 0xC0205300: // SNP_GET_REPORT
		d.plain++
		if len(request) != 96 || certificates != nil {
			d.tb.Errorf("request of %d bytes, want 96", len(request))
		}
	case 0xC0205302: // SNP_GET_EXT_REPORT
		d.asked = append(d.asked, len(certificates))
		size := int(binary.LittleEndian.Uint32(request[104:]))
		if len(request) != 112 || size != len(certificates) || !bytes.Equal(request[96:104], make([]byte, 8)) || !bytes.Equal(request[108:], make([]byte, 4)) {
			d.tb.Errorf("request %x with %d bytes for certificates", request, len(certificates))
		}
		if size > d.limit || size%4096 != 0 {
			return 0xFF, syscall.EINVAL
		}
		if needed := (len(d.certificates) + 4095) &^ 4095; needed > size {
			binary.LittleEndian.PutUint32(request[104:], uint32(needed))
			return 1 << 32, syscall.EIO
		}
		copy(certificates, d.certificates)
	default:
		return 0xFF, syscall.ENOTTY
	}
	r := d.key.Report()
	copy(r.ReportData[:], reportData)
	report := d.key.Sign(snptest.Encode(r))
	binary.LittleEndian.PutUint32(response[4:], uint32(len(report)))
	copy(response[32:], report)
	if d.change != nil {
		d.change(response)
	}
	return 0, nil
}

func (d *device) Close() error {
	d.closed = true
	return nil
}

// TestDeviceAttester gets a report from the driver and verifies it with the
// certificates that came along.
func TestDeviceAttester(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	small := table(t, guidVCEK, k.Certificate, guidASK, m.ASK.Certificate.Raw)
	large := table(t, guidOther, make([]byte, 20<<10), guidVCEK, k.Certificate, guidASK, m.ASK.Certificate.Raw)
	for name, c := range map[string]struct {
		certificates []byte
		limit, plain int
		asked        []int
		want         int
	}{
		"certificates":          {small, 16 << 10, 0, []int{16 << 10}, 2},
		"none":                  {nil, 16 << 10, 0, []int{16 << 10}, 0},
		"many":                  {large, 64 << 10, 0, []int{16 << 10, 24 << 10}, 2},
		"more than the kernel":  {large, 16 << 10, 1, []int{16 << 10, 24 << 10}, 0},
		"more than we read":     {make([]byte, 65<<10), 1 << 20, 1, []int{16 << 10}, 0},
		"kernel without a room": {small, 0, 1, []int{16 << 10}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := &device{tb: t, key: k, certificates: c.certificates, limit: c.limit}
			a := snp.NewDeviceAttester(d)
			ev, err := a.Evidence(t.Context(), [64]byte{7, 63: 8})
			if err != nil || ev.Kind != tee.SNP || a.Kind() != tee.SNP || len(ev.Certificates) != c.want {
				t.Fatalf("%d certificates, %v", len(ev.Certificates), err)
			}
			if d.plain != c.plain || len(d.asked) != len(c.asked) || d.asked[len(d.asked)-1] != c.asked[len(c.asked)-1] {
				t.Errorf("asked %v, and %d times without certificates", d.asked, d.plain)
			}
			in := m.Input()
			in.Endorsements.Certificates = [][]byte{k.Certificate}
			claims, _, err := snp.New().Verify(ev, in)
			if err != nil || [64]byte(claims.ReportData) != [64]byte{7, 63: 8} {
				t.Errorf("%v, %v", claims, err)
			}
			if err := a.Close(); err != nil || !d.closed {
				t.Error(err)
			}
			unavailable(t, a)
		})
	}
}

func TestDeviceAttesterRefuses(t *testing.T) {
	k := manufacturer(t, snp.Milan).VCEK(t, snptest.KeyOptions{})
	for name, d := range map[string]*device{
		"host error":        {err: syscall.EIO},
		"status":            {change: func(b []byte) { b[0] = 0x16 }},
		"other size":        {change: func(b []byte) { b[4]++ }},
		"no report":         {change: func(b []byte) { clear(b) }},
		"other report data": {change: func(b []byte) { b[32+0x50] ^= 1 }},
		"malformed table":   {certificates: []byte("junk that is longer than an entry of the table")},
	} {
		t.Run(name, func(t *testing.T) {
			d.tb, d.key, d.limit = t, k, 16<<10
			unavailable(t, snp.NewDeviceAttester(d))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := snp.NewDeviceAttester(&device{tb: t, key: k}).Evidence(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// TestOpenDevice is about a machine that is no guest, mostly.
func TestOpenDevice(t *testing.T) {
	a, err := snp.OpenDevice()
	if err == nil {
		_ = a.Close()
		t.Skip("this is a guest of SEV-SNP; tests leave its device alone")
	}
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func FuzzDeviceResponse(f *testing.F) {
	k := manufacturer(f, snp.Milan).VCEK(f, snptest.KeyOptions{})
	d := &device{tb: f, key: k}
	response := make([]byte, 4000)
	if _, err := d.Ioctl(snp.GetReport, make([]byte, 96), response, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(response)
	f.Add(response[:32])
	f.Fuzz(func(t *testing.T, b []byte) {
		report, err := snp.ReadDeviceResponse(b, [64]byte{})
		if err == nil && (len(report) != snp.ReportSize || !bytes.Equal(report[0x50:0x90], make([]byte, 64))) || err != nil && report != nil {
			t.Fatalf("report %x, error %v", report, err)
		}
	})
}
