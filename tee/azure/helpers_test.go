package azure_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// fakeTDX is a verifier of TD quotes that remembers what it was given, and says
// that its report data is where quotes of version 4 have it.
type fakeTDX struct {
	got   tee.Evidence
	input tee.Input
	debug bool
	err   error
}

func (f *fakeTDX) Kind() tee.Kind       { return tee.TDX }
func (f *fakeTDX) Detect(b []byte) bool { return true }
func (f *fakeTDX) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	f.got, f.input = ev, in
	if f.err != nil {
		return tee.Claims{}, nil, f.err
	}
	return tee.Claims{
		TEE: tee.TDX, Debug: f.debug, Measurement: make([]byte, 48), ReportData: ev.Data[48+520:][:64], Platform: "ppid", TCB: tee.TCBUpToDate,
		Vendor: map[string]any{"mrtd": "x"},
	}, []tee.Finding{{Code: tee.CodeTrailing}}, nil
}

// machine is an Azure VM on SEV-SNP whose parts can be changed before it makes
// evidence.
type machine struct {
	manufacturer *snptest.Manufacturer
	key          *snptest.Key
	tpm          *tpmtest.TPM
	runtime      map[string]any
	change       func(*snp.Report)     // of the hardware's report, before it is signed
	hcl          func([]byte) []byte   // of the paravisor's report, afterwards
	envelope     func(*azure.Envelope) // of the envelope
}

// parts are shared by tests, because they take time to make.
var parts = sync.OnceValue(func() *struct {
	sync.Mutex
	manufacturer *snptest.Manufacturer
	vcek         *snptest.Key
	ak           crypto.Signer
} {
	return &struct {
		sync.Mutex
		manufacturer *snptest.Manufacturer
		vcek         *snptest.Key
		ak           crypto.Signer
	}{}
})

func newMachine(tb testing.TB) *machine {
	tb.Helper()
	p := parts()
	p.Lock()
	defer p.Unlock()
	if p.ak == nil {
		p.manufacturer = snptest.New(tb, snp.Milan)
		p.vcek = p.manufacturer.VCEK(tb, snptest.KeyOptions{})
		p.ak = tpmtest.NewKey(tb, tpm.RSASSA)
	}
	m := &machine{manufacturer: p.manufacturer, key: p.vcek, tpm: tpmtest.WithKey(p.ak, tpm.RSASSA)}
	m.runtime = map[string]any{
		"keys":             []any{jwk(tb, "HCLAkPub", p.ak)},
		"vm-configuration": map[string]any{"secure-boot": true, "console-enabled": false, "vmUniqueId": "A-B", "current-time": 1678652405, "list": []any{1}, "half": 0.5},
		"user-data":        "00FF",
	}
	return m
}

func jwk(tb testing.TB, name string, key crypto.Signer) map[string]any {
	tb.Helper()
	k, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		tb.Fatal("not an RSA key")
	}
	return map[string]any{
		"kid": name, "kty": "RSA", "key_ops": []string{"sign"},
		"n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes()),
	}
}

// hclReport is a paravisor's report of 2600 bytes.
func hclReport(kind uint32, hardware, data []byte) []byte {
	le := binary.LittleEndian
	b := append([]byte("HCLA"), make([]byte, 28)...)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], uint32(1236+len(data)))
	le.PutUint32(b[12:], 2)
	b = append(b, hardware...)
	b = append(b, make([]byte, 1216-len(b))...)
	for _, n := range []uint32{uint32(20 + len(data)), 1, kind, 1, uint32(len(data))} {
		b = le.AppendUint32(b, n)
	}
	b = append(b, data...)
	return append(b, make([]byte, max(0, 2600-len(b)))...)
}

// parts of the machine's evidence put together.
func (m *machine) make(tb testing.TB) *azure.Envelope {
	tb.Helper()
	data, err := json.Marshal(m.runtime)
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256Of(data)
	r := m.key.Report()
	r.ReportData = [64]byte{}
	copy(r.ReportData[:], sum)
	if m.change != nil {
		m.change(&r)
	}
	e := &azure.Envelope{HCLReport: hclReport(2, m.key.Sign(snptest.Encode(r)), data), VCEK: [][]byte{m.key.Certificate}}
	if m.hcl != nil {
		e.HCLReport = m.hcl(e.HCLReport)
	}
	quote := m.tpm.Quote([]byte("challenge"))
	e.Message = tpmtest.EncodeQuote(quote)
	e.Signature = m.tpm.RawSignature(e.Message)
	for i := range uint32(24) {
		e.PCRs = append(e.PCRs, m.tpm.PCRs[0x0B][i])
	}
	if m.envelope != nil {
		m.envelope(e)
	}
	return e
}

func (m *machine) evidence(tb testing.TB) tee.Evidence {
	tb.Helper()
	b, err := m.make(tb).Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.AzureSNP, Data: b}
}

func (m *machine) input() tee.Input { return m.manufacturer.Input() }

// wantCodes checks that verification refused with exactly these codes, each at
// least once, and gave no claims.
func wantCodes(tb testing.TB, claims tee.Claims, findings []tee.Finding, err error, codes ...tee.Code) *tee.VerifyError {
	tb.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || !errors.Is(err, tee.ErrNotVerified) {
		tb.Fatalf("got %v, want a *tee.VerifyError with %v", err, codes)
	}
	var got []tee.Code
	for _, f := range e.Failures {
		got = append(got, f.Code)
	}
	slices.Sort(got)
	got = slices.Compact(got)
	if want := slices.Sorted(slices.Values(codes)); !slices.Equal(got, want) {
		tb.Fatalf("refused with %v, want %v: %v", got, want, err)
	}
	if claims.TEE != "" || claims.Measurement != nil || claims.Vendor != nil || findings != nil {
		tb.Fatalf("claims beside an error: %+v, %v", claims, findings)
	}
	return e
}

func refuses(tb testing.TB, ev tee.Evidence, in tee.Input, codes ...tee.Code) *tee.VerifyError {
	tb.Helper()
	claims, findings, err := azure.NewSNP(snp.New()).Verify(ev, in)
	return wantCodes(tb, claims, findings, err, codes...)
}

func sha256Of(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}
