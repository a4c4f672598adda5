package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// Handles and commands of a TPM (part 2, sections "TPM_RH" and "TPM_CC").
const (
	rhOwner, rhNull, rsPassword, rhEndorsement = 0x40000001, 0x40000007, 0x40000009, 0x4000000B

	ccCreatePrimary, ccCertify, ccQuote, ccRSADecrypt, ccFlush = 0x131, 0x148, 0x158, 0x159, 0x165
	ccReadPublic, ccStartSession, ccPCRRead, ccPolicyPCR       = 0x173, 0x176, 0x17E, 0x17F
	ccPCRExtend                                                = 0x182

	rcRetry = 0x922 // "TPM_RC": it had to do something else first
)

// realTPM is a software TPM that does commands.
type realTPM struct {
	*testing.T
	conn io.ReadWriter
}

func newRealTPM(t *testing.T) *realTPM {
	t.Helper()
	conn, _ := tpmtest.Software(t, t.TempDir())
	return &realTPM{t, conn}
}

// run does a command; each session authorises one handle. It returns what follows
// the header of the response.
func (m *realTPM) run(code uint32, handles, sessions []uint32, params ...[]byte) ([]byte, error) {
	m.Helper()
	be := binary.BigEndian
	b := be.AppendUint32([]byte{0x80, 1, 0, 0, 0, 0}, code)
	for _, h := range handles {
		b = be.AppendUint32(b, h)
	}
	if len(sessions) > 0 {
		b[1] = 2
		b = be.AppendUint32(b, uint32(9*len(sessions)))
		for _, s := range sessions {
			b = append(be.AppendUint32(b, s), 0, 0, 0, 0, 0)
		}
	}
	b = append(b, bytes.Join(params, nil)...)
	be.PutUint32(b[2:], uint32(len(b)))
	for tries := 0; ; tries++ {
		if _, err := m.conn.Write(b); err != nil {
			m.Fatal(err)
		}
		response := make([]byte, 4096)
		n, err := io.ReadAtLeast(m.conn, response, 10)
		if err != nil {
			m.Fatal(err)
		}
		switch rc := be.Uint32(response[6:]); {
		case rc == 0:
			return response[10:n], nil
		case rc != rcRetry || tries == 100:
			return nil, fmt.Errorf("command %#x: %#x", code, rc)
		}
	}
}

func (m *realTPM) must(code uint32, handles, sessions []uint32, params ...[]byte) []byte {
	m.Helper()
	out, err := m.run(code, handles, sessions, params...)
	if err != nil {
		m.Fatal(err)
	}
	return out
}

// takeSized takes a TPM2B.
func takeSized(b []byte) (v, rest []byte) {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n], b[n:]
}

// createPrimary makes a key and returns its handle and TPM2B_PUBLIC.
func (m *realTPM) createPrimary(hierarchy uint32, area []byte) (handle uint32, public []byte) {
	m.Helper()
	r := m.must(ccCreatePrimary, []uint32{hierarchy}, []uint32{rsPassword}, []byte{0, 4, 0, 0, 0, 0}, sizedBytes(area), make([]byte, 6))
	v, _ := takeSized(r[8:])
	return binary.BigEndian.Uint32(r), sizedBytes(v)
}

// template is a public area of a key of 2048 bits to be made.
func template(attributes tpm.Attributes, scheme, policy []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 1, 0, 0x0B}, uint32(attributes))
	b = append(append(append(b, sizedBytes(policy)...), 0, 0x10), scheme...)
	return append(b, 8, 0, 0, 0, 0, 0, 0, 0)
}

// pcrSelection is PCRs 0 to 7 of the bank of SHA-256.
var pcrSelection = []byte{0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0, 0}

// signed takes the structure and the bare signature of a response.
func signed(r []byte) (structure, signature []byte) {
	structure, rest := takeSized(r[4:])
	signature, _ = takeSized(rest[4:])
	return structure, signature
}

// extend changes register 7.
func (m *realTPM) extend() {
	m.Helper()
	m.must(ccPCRExtend, []uint32{7}, []uint32{rsPassword}, []byte{0, 0, 0, 1, 0, 0x0B}, bytes.Repeat([]byte{7}, 32))
}

// policySession is a session in which the registers have their present values.
func (m *realTPM) policySession() uint32 {
	m.Helper()
	r := m.must(ccStartSession, []uint32{rhNull, rhNull}, nil, sizedBytes(make([]byte, 16)), []byte{0, 0, 1, 0, 0x10, 0, 0x0B})
	session := binary.BigEndian.Uint32(r)
	m.must(ccPolicyPCR, []uint32{session}, nil, []byte{0, 0}, pcrSelection)
	return session
}

// guest is what Azure's library asks a TPM for, with its key in a hierarchy: the
// library for C++ uses the null hierarchy, the tools in Python the owner's.
func (m *realTPM) guest(g *guestVM, hierarchy uint32) (body any, decrypt func([]byte) ([]byte, error)) {
	m.Helper()
	const akAttributes = tpm.FixedTPM | tpm.FixedParent | tpm.SensitiveDataOrigin | tpm.UserWithAuth | tpm.Restricted | tpm.Sign
	ak, _ := m.createPrimary(rhEndorsement, template(akAttributes, []byte{0, 0x14, 0, 0x0B}, nil))
	akPublic := m.must(ccReadPublic, []uint32{ak}, nil)
	area, _ := takeSized(akPublic)
	named, err := tpm.ParsePublic(area)
	if err != nil {
		m.Fatal(err)
	}
	quote, quoteSignature := signed(m.must(ccQuote, []uint32{ak}, []uint32{rsPassword}, []byte{0, 0, 0, 0x10}, pcrSelection))
	r := m.must(ccPCRRead, nil, nil, pcrSelection)
	var set, pcrs []any
	values := r[4+len(pcrSelection)+4:]
	digest := sha256.New()
	for i := range 8 {
		var v []byte
		v, values = takeSized(values)
		digest.Write(v)
		set, pcrs = append(set, i), append(pcrs, map[string]any{"Index": i, "Digest": std64(v)})
	}
	policy := sha256.Sum256(append(append(append(make([]byte, 32), 0, 0, 1, 0x7F), pcrSelection...), digest.Sum(nil)...))
	key, public := m.createPrimary(hierarchy, template(keyAttributes, []byte{0, 0x10}, policy[:]))
	certified, certifySignature := signed(m.must(ccCertify, []uint32{key, ak}, []uint32{rsPassword, rsPassword}, []byte{0, 0, 0, 0x10}))
	m.must(ccFlush, nil, nil, binary.BigEndian.AppendUint32(nil, ak))
	runtime := runtimeOf(named.Key)
	tpmInfo := map[string]any{
		"AikCert": "", "AikPub": std64(akPublic), "PcrQuote": std64(quote), "PcrSignature": std64(quoteSignature), "PcrSet": set, "PCRs": pcrs,
		"EncKeyPub": std64(public), "EncKeyCertifyInfo": std64(certified), "EncKeyCertifyInfoSignature": std64(certifySignature),
	}
	g.change = func(info, _, _ map[string]any) { info["TcgLogs"] = "" }
	decrypt = func(b []byte) ([]byte, error) {
		r, err := m.run(ccRSADecrypt, []uint32{key}, []uint32{m.policySession()}, sizedBytes(b), []byte{0, 0x15}, []byte{0, 0})
		if err != nil {
			return nil, err
		}
		out, _ := takeSized(r[4:])
		return out, nil
	}
	return g.body(tpmInfo, g.snpIsolation(runtime)), decrypt
}

// TestGuestSWTPM has a real implementation of the specification make all that a
// guest sends, and open the answer; and not in another state.
func TestGuestSWTPM(t *testing.T) {
	for name, hierarchy := range map[string]uint32{"null hierarchy": rhNull, "owner hierarchy": rhOwner} {
		t.Run(name, func(t *testing.T) {
			m := newRealTPM(t)
			m.extend()
			g := newGuest(newWorld(t))
			body, decrypt := m.guest(g, hierarchy)
			claims := g.open("", body, decrypt)
			wantClaims(t, claims, map[string]any{"x-ms-attestation-type": "azurevm", "secureboot": nil, "x-ms-azurevm-vmid": "A80B"})
			// What it said can be sent again, and answered again; once the VM has changed, it
			// cannot open such an answer any more.
			_, answer := g.do(http.MethodPost, "/attest/AzureGuest"+version, "", body)
			if _, err := decrypt(innerKey(t, answer)); err != nil {
				t.Error(err)
			}
			m.extend()
			if _, err := decrypt(innerKey(t, answer)); err == nil || !strings.HasSuffix(err.Error(), "0x99d") { // TPM_RC_POLICY_FAIL, session 1
				t.Errorf("in another state: %v", err)
			}
		})
	}
}
