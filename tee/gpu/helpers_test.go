package gpu_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// at is when everything that is made here is valid.
var at = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// signer is a certificate and its key.
type signer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue makes a certificate.
func (s *signer) issue(tb testing.TB, name string, change func(*x509.Certificate)) *signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	parent, by := template, key
	if s != nil {
		parent, by = s.certificate, s.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &signer{c, key}
}

// device is a GPU with a chain.
type device struct {
	root, maker, device, firmware *signer
	fwid                          []byte
	fields                        map[uint16][]byte
	change                        func(request, response []byte) []byte // of the response before it is signed
}

func newDevice(tb testing.TB) *device {
	tb.Helper()
	d := &device{fwid: bytes.Repeat([]byte{0xF1}, 48)}
	d.root = (*signer)(nil).issue(tb, "root", nil)
	d.maker = d.root.issue(tb, "maker", nil)
	d.device = d.maker.issue(tb, "device", nil)
	d.firmware = d.newFirmware(tb, d.device, nil)
	d.fields = map[uint16][]byte{3: []byte("550.90.07\x00"), 6: {0, 0x9F, 0, 0x96, 1, 0, 0, 0}, 15: []byte("882\x00\x00"), 17: []byte("1010\x00"), 20: d.fwid}
	return d
}

// newFirmware makes a certificate of firmware.
func (d *device) newFirmware(tb testing.TB, by *signer, change func(*x509.Certificate)) *signer {
	tb.Helper()
	return by.issue(tb, "firmware", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, Value: fwid(tb, d.fwid)}}
		if change != nil {
			change(c)
		}
	})
}

// fwid is the extension that names firmware.
func fwid(tb testing.TB, digest []byte) []byte {
	tb.Helper()
	type id struct {
		Hash   asn1.ObjectIdentifier
		Digest []byte
	}
	b, err := asn1.Marshal(struct {
		Version int
		Key     struct{ X int }
		FWID    id
	}{1, struct{ X int }{1}, id{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, digest}})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// evidence is a report over a nonce.
func (d *device) evidence(tb testing.TB) tee.Evidence {
	tb.Helper()
	le := binary.LittleEndian
	request := append(append([]byte{0x11, 0xE0, 1, 0xFF}, bytes.Repeat([]byte{0x4E}, 32)...), 0)
	var record []byte
	for i := range byte(3) {
		record = append(record, i+1, 1, 51, 0, 1, 48, 0)
		record = append(record, bytes.Repeat([]byte{i}, 48)...)
	}
	response := append([]byte{0x11, 0x60, 0, 0, 3, byte(len(record)), byte(len(record) >> 8), 0}, record...)
	response = append(response, bytes.Repeat([]byte{0x0D}, 32)...)
	var opaque []byte
	for id := range uint16(32) {
		if v, ok := d.fields[id]; ok {
			opaque = append(le.AppendUint16(le.AppendUint16(opaque, id), uint16(len(v))), v...)
		}
	}
	response = append(le.AppendUint16(response, uint16(len(opaque))), opaque...)
	if d.change != nil {
		response = d.change(request, response)
	}
	b := append(request, response...)
	digest := sha512.Sum384(b)
	r, s, err := ecdsa.Sign(rand.Reader, d.firmware.key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	ev := tee.Evidence{Kind: tee.NvidiaGPU, Data: append(b, signature...)}
	for _, c := range []*signer{d.firmware, d.device, d.maker, d.root} {
		ev.Certificates = append(ev.Certificates, c.certificate.Raw)
	}
	return ev
}

func (d *device) input() tee.Input {
	return tee.Input{At: at, Roots: tee.Roots{d.root.certificate}}
}

// recorded is the evidence of a real device.
func recorded(tb testing.TB) tee.Evidence {
	tb.Helper()
	report, err := os.ReadFile("testdata/hopper-report.bin")
	if err != nil {
		tb.Fatal(err)
	}
	rest, err := os.ReadFile("testdata/hopper-chain.pem")
	if err != nil {
		tb.Fatal(err)
	}
	ev := tee.Evidence{Kind: tee.NvidiaGPU, Data: report}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ev
		}
		ev.Certificates = append(ev.Certificates, block.Bytes)
	}
}
