package maa_test

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// keyAttributes are those of the key that Azure's guests make: with noDA.
const keyAttributes = tpm.FixedTPM | tpm.FixedParent | tpm.SensitiveDataOrigin | tpm.Decrypt | 1<<10

// guestKeys are shared by tests, because RSA keys take time to make.
var guestKeys = sync.OnceValues(func() (keys [3]*rsa.PrivateKey, err error) {
	for i := range keys {
		var e error
		keys[i], e = rsa.GenerateKey(rand.Reader, 2048)
		err = errors.Join(err, e)
	}
	return keys, err
})

// guestVM is a VM of Azure that can be changed in any way before it asks.
type guestVM struct {
	*world
	tpm        *tpmtest.TPM
	ak, key    *rsa.PrivateKey
	attributes tpm.Attributes // of key
	scheme     uint16
	policy     []byte // of key; nil: of what is quoted
	runtime    string // of the paravisor; empty: one that names ak
	vmpl       uint32
	resets     uint32 // in the certification
	restarts   uint32
	// These change what was made, before it is encoded.
	certify func(b []byte) []byte
	public  func(b []byte) []byte
	change  func(info, tpmInfo, isolation map[string]any)
}

func newGuest(w *world) *guestVM {
	w.Helper()
	keys, err := guestKeys()
	if err != nil {
		w.Fatal(err)
	}
	g := &guestVM{world: w, tpm: tpmtest.WithKey(keys[0], tpm.RSASSA), ak: keys[0], key: keys[1], attributes: keyAttributes, resets: 3, restarts: 1}
	g.tpm.Template.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{0, 1, 2, 3, 4, 5, 6, 7}}}
	return g
}

// runtimeOf is what a paravisor says that names a key.
func runtimeOf(ak crypto.PublicKey) string {
	k := ak.(*rsa.PublicKey)
	return `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"` + url64(big.NewInt(int64(k.E)).Bytes()) + `","n":"` + url64(k.N.Bytes()) +
		`"}],"vm-configuration":{"secure-boot":true,"tpm-enabled":true,"vmUniqueId":"A80B"},"user-data":"00FF"}`
}

func sizedBytes(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// publicArea is a TPMT_PUBLIC of an RSA key with a policy.
func publicArea(k *rsa.PublicKey, attributes tpm.Attributes, scheme uint16, policy []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint32([]byte{0, 1, 0, 0x0B}, uint32(attributes))
	b = append(append(b, sizedBytes(policy)...), 0, 0x10)
	switch scheme {
	case 0:
		b = append(b, 0, 0x10)
	case 0x15: // RSAES, which has no hash
		b = append(b, 0, 0x15)
	default:
		b = append(be.AppendUint16(b, scheme), 0, 0x0B)
	}
	b = append(be.AppendUint16(b, uint16(k.N.BitLen())), 0, 0, 0, 0)
	return append(b, sizedBytes(k.N.Bytes())...)
}

// nameOf is the name of a public area, of SHA-256.
func nameOf(area []byte) []byte {
	sum := sha256.Sum256(area)
	return append([]byte{0, 0x0B}, sum[:]...)
}

// certification is a TPMS_ATTEST of TPM2_Certify.
func (g *guestVM) certification(name []byte) []byte {
	be := binary.BigEndian
	b := []byte{0xFF, 'T', 'C', 'G', 0x80, 0x17}
	b = append(append(b, sizedBytes(g.tpm.Template.QualifiedSigner)...), 0, 0)
	b = be.AppendUint32(be.AppendUint32(be.AppendUint64(b, 12346), g.resets), g.restarts)
	b = be.AppendUint64(append(b, 1), 0x20160511)
	return append(append(b, sizedBytes(name)...), sizedBytes(name)...)
}

// policyOf is the digest of PolicyPCR for what a TPM quotes.
func policyOf(q tpm.Quote) []byte {
	b := append(make([]byte, 32), 0, 0, 0x01, 0x7F, 0, 0, 0, byte(len(q.Selections)))
	for _, s := range q.Selections {
		var bits [3]byte
		for _, i := range s.Indices {
			bits[i/8] |= 1 << (i % 8)
		}
		b = append(append(binary.BigEndian.AppendUint16(b, uint16(s.Algorithm)), 3), bits[:]...)
	}
	sum := sha256.Sum256(append(b, q.PCRDigest...))
	return sum[:]
}

func std64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// request is the body of a call, as Azure's library for C++ makes it.
func (g *guestVM) request() map[string]any {
	g.Helper()
	runtime := g.runtime
	if runtime == "" {
		runtime = runtimeOf(g.ak.Public())
	}
	quote := g.tpm.Quote(nil)
	message := tpmtest.EncodeQuote(quote)
	policy := g.policy
	if policy == nil {
		policy = policyOf(quote)
	}
	area := publicArea(&g.key.PublicKey, g.attributes, g.scheme, policy)
	certified := g.certification(nameOf(area))
	if g.certify != nil {
		certified = g.certify(certified)
	}
	if g.public != nil {
		area = g.public(area)
	}
	var set, pcrs []any
	for _, i := range g.tpm.Template.Selections[0].Indices {
		set = append(set, i)
		pcrs = append(pcrs, map[string]any{"Index": i, "Digest": std64(g.tpm.PCRs[eventlog.SHA256][i])})
	}
	tpmInfo := map[string]any{
		"AikCert": std64([]byte("of no use")), "AikPub": std64(sizedBytes(publicArea(&g.ak.PublicKey, tpmtest.AKAttributes, uint16(tpm.RSASSA), nil))),
		"PcrQuote": std64(message), "PcrSignature": std64(g.tpm.RawSignature(message)), "EncKeyPub": std64(sizedBytes(area)),
		"EncKeyCertifyInfo": std64(certified), "EncKeyCertifyInfoSignature": std64(g.tpm.RawSignature(certified)), "PcrSet": set, "PCRs": pcrs,
	}
	return g.body(tpmInfo, g.snpIsolation(runtime))
}

// snpIsolation is the evidence of SEV-SNP.
func (g *guestVM) snpIsolation(runtime string) map[string]any {
	g.Helper()
	key := g.amd.VCEK(g, snptest.KeyOptions{})
	r := key.Report()
	r.ReportData, r.VMPL = [64]byte{}, g.vmpl
	digest := sha256.Sum256([]byte(runtime))
	copy(r.ReportData[:], digest[:])
	ev := key.Evidence(r)
	var chain []byte
	for _, c := range ev.Certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	proof, err := json.Marshal(map[string]string{"SnpReport": url64(ev.Data), "VcekCertChain": std64(chain)})
	if err != nil {
		g.Fatal(err)
	}
	return map[string]any{"Type": "SevSnp", "Evidence": map[string]any{"Proof": std64(proof), "RunTimeData": std64([]byte(runtime))}}
}

func (g *guestVM) body(tpmInfo, isolation map[string]any) map[string]any {
	g.Helper()
	info := map[string]any{
		"AttestationProtocolVersion": "2.0", "OSType": std64([]byte("Linux")), "OSDistro": std64([]byte("Ubuntu")), "OSBuild": std64([]byte("NotApplication")),
		"OSVersionMajor": 22, "OSVersionMinor": "04", "TcgLogs": std64(g.tpm.Log), "ClientPayload": map[string]any{"nonce": "MTIzNA=="},
		"TpmInfo": tpmInfo, "IsolationInfo": isolation,
	}
	if g.change != nil {
		g.change(info, tpmInfo, isolation)
	}
	b, err := json.Marshal(info)
	if err != nil {
		g.Fatal(err)
	}
	return map[string]any{"AttestationInfo": url64(b)}
}

// sealed is what Azure's clients read of an answer.
type sealed struct {
	EncryptedInnerKey, AuthenticationData, Jwt []byte
	EncryptionParams                           struct {
		Iv                              []byte
		BlockMode, BlockPadding, Cipher string
		KeySizeInBits                   int
	}
}

// open asks, decrypts the answer with decrypt, and returns the token's claims.
func (w *world) open(prefix string, body any, decrypt func([]byte) ([]byte, error)) map[string]any {
	w.Helper()
	status, answer := w.do(http.MethodPost, prefix+"/attest/AzureGuest"+version, "", body)
	text, _ := answer["token"].(string)
	b, err := base64.RawURLEncoding.DecodeString(text)
	var s sealed
	if err = errors.Join(err, json.Unmarshal(b, &s)); status != http.StatusOK || err != nil {
		w.Fatalf("%d %v %v", status, answer, err)
	}
	if p := s.EncryptionParams; p.BlockMode != "ChainingModeGCM" || p.BlockPadding != "PKCS7" || p.Cipher != "AES" || p.KeySizeInBits != 256 || len(p.Iv) != 12 {
		w.Errorf("parameters %+v", p)
	}
	key, err := decrypt(s.EncryptedInnerKey)
	if err != nil || len(key) != 32 {
		w.Fatalf("key of %d bytes: %v", len(key), err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		w.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		w.Fatal(err)
	}
	token, err := aead.Open(nil, s.EncryptionParams.Iv, append(s.Jwt, s.AuthenticationData...), []byte("Transport Key"))
	if err != nil {
		w.Fatal(err)
	}
	return w.opened(prefix, string(token))
}

// decrypt is what a TPM would do with its key.
func (g *guestVM) decrypt(b []byte) ([]byte, error) {
	return rsa.DecryptPKCS1v15(nil, g.key, b)
}

// innerKey is the encrypted key of an answer.
func innerKey(tb testing.TB, answer map[string]any) []byte {
	tb.Helper()
	text, _ := answer["token"].(string)
	b, err := base64.RawURLEncoding.DecodeString(text)
	var s sealed
	if err = errors.Join(err, json.Unmarshal(b, &s)); err != nil || len(s.EncryptedInnerKey) == 0 {
		tb.Fatalf("%v %v", answer, err)
	}
	return s.EncryptedInnerKey
}
