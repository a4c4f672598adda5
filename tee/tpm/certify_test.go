package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

const sealAttributes = tpm.FixedTPM | tpm.FixedParent | tpm.SensitiveDataOrigin | tpm.Decrypt

// certifyInfo is a TPMS_ATTEST of TPM2_Certify.
func certifyInfo(name []byte) []byte {
	be := binary.BigEndian
	sized := func(b, v []byte) []byte { return append(be.AppendUint16(b, uint16(len(v))), v...) }
	b := sized(sized([]byte{0xFF, 'T', 'C', 'G', 0x80, 0x17}, []byte("signer")), []byte("extra"))
	b = be.AppendUint32(be.AppendUint32(be.AppendUint64(b, 9), 3), 1)
	return sized(sized(be.AppendUint64(append(b, 1), 7), name), []byte("qualified"))
}

// withPolicy puts a policy into a public area that has none, and scheme 0.
func withPolicy(area, policy []byte) []byte {
	return slices.Concat(area[:8], []byte{0, byte(len(policy))}, policy, area[10:])
}

// sealing is a key that a TPM made for decryption, and its TPMT_PUBLIC.
func sealing(tb testing.TB, policy []byte) *tpm.Public {
	tb.Helper()
	key := chip(tb, tpm.RSAPSS).Key.Public() // another than the attestation key
	p, err := tpm.ParsePublic(withPolicy(tpmtest.EncodePublic(key, sealAttributes, 0, 0, 0), policy))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestCertification(t *testing.T) {
	ak := chip(t, tpm.RSASSA)
	key := sealing(t, make([]byte, 32))
	message := certifyInfo(key.Name())
	signature := &tpm.Signature{Scheme: tpm.RSASSA, Hash: eventlog.SHA256, RSA: ak.RawSignature(message)}
	c, failures := tpm.CheckCertification(message, signature, ak.Key.Public(), key)
	if len(failures) > 0 || string(c.QualifiedSigner) != "signer" || string(c.ExtraData) != "extra" || c.ResetCount != 3 || c.RestartCount != 1 || !bytes.Equal(c.Name, key.Name()) {
		t.Fatalf("%+v, %v", c, failures)
	}
	for i := range message {
		altered := bytes.Clone(message)
		altered[i] ^= 1
		if c, failures := tpm.CheckCertification(altered, signature, ak.Key.Public(), key); c != nil || len(failures) == 0 {
			t.Errorf("byte %d altered: %+v", i, c)
		}
	}
	for n := range len(message) {
		if _, err := tpm.ParseCertification(message[:n]); err == nil {
			t.Errorf("%d bytes of %d are read", n, len(message))
		}
	}
}

// TestCertificationRefuses: each with a good signature, where it is about another
// thing.
func TestCertificationRefuses(t *testing.T) {
	ak := chip(t, tpm.RSASSA)
	key := sealing(t, make([]byte, 32))
	good := certifyInfo(key.Name())
	weak := &rsa.PublicKey{N: ak.Key.Public().(*rsa.PublicKey).N, E: 2}
	altered := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for name, c := range map[string]struct {
		message []byte
		hash    eventlog.Algorithm // 0: no signature
		ak      crypto.PublicKey
		key     *tpm.Public
		code    tee.Code
		claim   string
	}{
		"no signature":         {good, 0, ak.Key.Public(), key, tee.CodeSignature, "certification"},
		"no key":               {good, eventlog.SHA256, ak.Key.Public(), nil, tee.CodeSignature, "certification"},
		"weak AK":              {good, eventlog.SHA256, weak, key, tee.CodeUnsupported, "attestation key"},
		"SHA-1":                {good, eventlog.SHA1, ak.Key.Public(), key, tee.CodeUnsupported, "signature of the certification"},
		"another AK":           {good, eventlog.SHA256, key.Key, key, tee.CodeSignature, "signature of the certification"},
		"another key":          {good, eventlog.SHA256, ak.Key.Public(), sealing(t, nil), tee.CodeBinding, "certification"},
		"another magic":        {altered(0, 0), eventlog.SHA256, ak.Key.Public(), key, tee.CodeParse, "certification"},
		"another type":         {altered(5, 0x18), eventlog.SHA256, ak.Key.Public(), key, tee.CodeParse, "certification"},
		"neither yes nor no":   {altered(bytes.Index(good, []byte("extra"))+5+16, 2), eventlog.SHA256, ak.Key.Public(), key, tee.CodeParse, "certification"},
		"a quote":              {tpmtest.EncodeQuote(ak.Quote(nil)), eventlog.SHA256, ak.Key.Public(), key, tee.CodeParse, "certification"},
		"bytes behind the end": {append(bytes.Clone(good), 0), eventlog.SHA256, ak.Key.Public(), key, tee.CodeParse, "certification"},
	} {
		var signature *tpm.Signature
		if c.hash != 0 {
			signature = &tpm.Signature{Scheme: tpm.RSASSA, Hash: c.hash, RSA: ak.RawSignature(c.message)}
		}
		got, f := tpm.CheckCertification(c.message, signature, c.ak, c.key)
		if got != nil || len(f) == 0 || f[0].Code != c.code || f[0].Claim != c.claim {
			t.Errorf("%s: %+v, %v", name, got, f)
		}
	}
}

func TestParsePublicArea(t *testing.T) {
	key := sealing(t, nil)
	sized := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	area := sized(key.Bytes())
	p, qualified, err := tpm.ParsePublicArea(area)
	if err != nil || qualified != nil || !bytes.Equal(p.Bytes(), key.Bytes()) {
		t.Fatal(err)
	}
	if _, qualified, err = tpm.ParsePublicArea(slices.Concat(area, sized(key.Name()), sized([]byte("q")))); err != nil || string(qualified) != "q" {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"truncated":    area[:100],
		"bytes behind": append(bytes.Clone(area), 0),
		"one name":     slices.Concat(area, sized(key.Name())),
		"another name": slices.Concat(area, sized(make([]byte, 34)), sized([]byte("q"))),
		"three names":  slices.Concat(area, sized(key.Name()), sized([]byte("q")), sized(nil)),
	} {
		if _, _, err := tpm.ParsePublicArea(b); err == nil || tpm.Failures(err)[0].Code == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPolicyPCR compares with the digest that swtpm and tpm2_policypcr give for
// sha256:0,1,2,3,4,5,6,7 that are all zeroes.
func TestPolicyPCR(t *testing.T) {
	q := &tpm.Quote{Selections: []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{0, 1, 2, 3, 4, 5, 6, 7}}}, PCRDigest: eventlog.SHA256.Sum(make([]byte, 8*32))}
	if got := hex.EncodeToString(q.PolicyPCR()); got != policyOfZeroes {
		t.Errorf("got %s", got)
	}
	q.PCRDigest = eventlog.SHA384.Sum(make([]byte, 8*32))
	if q.PolicyPCR() != nil {
		t.Error("a policy of another hash")
	}
}

const policyOfZeroes = "9a72c2e06a93c453a86efb47532e9c7a91dcab018e675919910c58d6a1a5aa78"

func TestCheckSealing(t *testing.T) {
	policy := bytes.Repeat([]byte{7}, 32)
	if f := sealing(t, policy).CheckSealing(policy); len(f) > 0 {
		t.Fatal(f)
	}
	for name, change := range map[string]func(p *tpm.Public){
		"signs":           func(p *tpm.Public) { p.Attributes |= tpm.Sign },
		"restricted":      func(p *tpm.Public) { p.Attributes |= tpm.Restricted },
		"has a password":  func(p *tpm.Public) { p.Attributes |= tpm.UserWithAuth },
		"from outside":    func(p *tpm.Public) { p.Attributes &^= tpm.SensitiveDataOrigin },
		"ECC":             func(p *tpm.Public) { p.Key = chip(t, tpm.ECDSA).Key.Public() },
		"a scheme":        func(p *tpm.Public) { p.Scheme = tpm.RSASSA },
		"protects others": func(p *tpm.Public) { p.SymmetricBits = 128 },
		"another name":    func(p *tpm.Public) { p.NameAlgorithm = eventlog.SHA384 },
		"no policy":       func(p *tpm.Public) { p.AuthPolicy = nil },
		"another policy":  func(p *tpm.Public) { p.AuthPolicy = make([]byte, 32) },
	} {
		p := sealing(t, policy)
		change(p)
		if f := p.CheckSealing(policy); len(f) != 1 {
			t.Errorf("%s: %v", name, f)
		}
	}
	p := sealing(t, nil)
	if f := p.CheckSealing(nil); len(f) != 1 { // no policy is not one that is kept
		t.Errorf("no policy at all: %v", f)
	}
}

// FuzzCertification: whatever is read is what was given.
func FuzzCertification(f *testing.F) {
	f.Add(certifyInfo([]byte("name")))
	f.Add([]byte{0xFF, 'T', 'C', 'G', 0x80, 0x17})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := tpm.ParseCertification(b)
		if err == nil && (len(c.Name) > 66 || !bytes.Contains(b, c.Name)) {
			t.Errorf("%+v", c)
		}
		_, _, _ = tpm.ParsePublicArea(b)
	})
}
