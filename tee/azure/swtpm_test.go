package azure_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// exchange has a TPM do one command and returns what follows the header.
func exchange(t *testing.T, conn io.ReadWriter, code uint32, handles []uint32, params []byte) []byte {
	t.Helper()
	be := binary.BigEndian
	b := be.AppendUint32([]byte{0x80, 0x02, 0, 0, 0, 0}, code)
	for _, h := range handles {
		b = be.AppendUint32(b, h)
	}
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // the empty password
	b = append(b, params...)
	be.PutUint32(b[2:], uint32(len(b)))
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	response := make([]byte, 4096)
	n, err := io.ReadAtLeast(conn, response, 10)
	if err != nil || be.Uint32(response[6:]) != 0 {
		t.Fatalf("command %#x gave %x, %v", code, response[:n], err)
	}
	return response[10:n]
}

// persistAK makes an attestation key like Azure's (RSA-2048, RSASSA with SHA-256)
// and keeps it at a handle. unique makes different keys.
func persistAK(t *testing.T, conn io.ReadWriter, handle uint32, unique byte) {
	t.Helper()
	template := []byte("\x00\x01\x00\x0B\x00\x05\x04\x72\x00\x00\x00\x10\x00\x14\x00\x0B\x08\x00\x00\x00\x00\x00\x01\x00")
	template = append(template, make([]byte, 256)...)
	template[len(template)-1] = unique
	be := binary.BigEndian
	params := be.AppendUint16([]byte{0, 4, 0, 0, 0, 0}, uint16(len(template)))
	params = append(append(params, template...), 0, 0, 0, 0, 0, 0)
	const createPrimary, evict, flush = 0x131, 0x120, 0x165
	transient := be.Uint32(exchange(t, conn, createPrimary, []uint32{0x4000000B}, params))
	exchange(t, conn, evict, []uint32{0x40000001, transient}, be.AppendUint32(nil, handle))
	b := be.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 1, 0x65}, transient)
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

// paravisor keeps a vTPM: it stands between a guest and a TPM, and puts a new
// report into the TPM when the guest reads it, as Azure's does.
type paravisor struct {
	io.ReadWriteCloser
	t       *testing.T
	machine *machine
	inside  *tpm.Attester // the paravisor's own way to the TPM
	mu      sync.Mutex
	// What it does: take no user data; the kind of report; what is changed of the
	// report.
	deaf   bool
	kind   uint32
	change func([]byte) []byte
}

// newParavisor returns a VM on SEV-SNP, whose chip and vTPM are real enough to sign.
func newParavisor(t *testing.T) *paravisor {
	t.Helper()
	conn, _ := tpmtest.Software(t, t.TempDir())
	persistAK(t, conn, 0x81000003, 0)
	persistAK(t, conn, 0x81000004, 1)
	inside, err := tpm.NewAttester(conn, tpm.Options{AK: 0x81000003})
	if err != nil {
		t.Fatal(err)
	}
	p := &paravisor{ReadWriteCloser: conn, t: t, machine: newMachine(t), inside: inside, kind: 2}
	p.machine.runtime["keys"] = []any{jwkOf("HCLAkPub", inside.AK().Key.(*rsa.PublicKey))}
	if err := inside.WriteNV(t.Context(), 0x01400001, make([]byte, 2048)); err != nil { // swtpm has no room for Azure's 2600
		t.Fatal(err)
	}
	return p
}

func jwkOf(name string, k *rsa.PublicKey) map[string]any {
	return map[string]any{"kid": name, "kty": "RSA", "n": base64URL(k.N.Bytes()), "e": base64URL(big.NewInt(int64(k.E)).Bytes())}
}

// Write sees the guest's commands on their way to the TPM.
func (p *paravisor) Write(b []byte) (int, error) {
	const nvRead = 0x14E
	be := binary.BigEndian
	if len(b) > 18 && be.Uint32(b[6:]) == nvRead && be.Uint32(b[14:]) == 0x01400001 && be.Uint16(b[len(b)-2:]) == 0 {
		p.renew()
	}
	return p.ReadWriteCloser.Write(b)
}

// renew makes a report over the user data that the guest left.
func (p *paravisor) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	runtime := maps.Clone(p.machine.runtime)
	if user, err := p.inside.ReadNV(p.t.Context(), 0x01400002, 64); err == nil && !p.deaf {
		runtime["user-data"] = hex.EncodeToString(user)
	}
	data, err := json.Marshal(runtime)
	if err != nil {
		p.t.Error(err)
	}
	var reportData [64]byte
	copy(reportData[:], sha256Of(data))
	hardware := make([]byte, 1184)
	if p.kind == 2 {
		r := p.machine.key.Report()
		r.ReportData = reportData
		hardware = p.machine.key.Sign(snptest.Encode(r))
	} else {
		hardware[0] = 0x81
		copy(hardware[128:], reportData[:])
	}
	b := hclReport(p.kind, hardware, data)
	if len(b) > 2048 && len(bytes.TrimRight(b, "\x00")) <= 2048 {
		b = b[:2048]
	}
	if p.change != nil {
		b = p.change(b)
	}
	if err := p.inside.WriteNV(p.t.Context(), 0x01400001, b); err != nil {
		p.t.Error(err)
	}
}
