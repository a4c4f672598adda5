package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestRefusesQuotes has bytes that the right key signed and that are no quote to
// believe.
func TestRefusesQuotes(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	good := tpmtest.EncodeQuote(c.Quote(make([]byte, 64)))
	selection := bytes.Index(good, []byte{0, 0, 0, 1, 0, 0x0B, 3})
	put := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	for name, x := range map[string]struct {
		quote []byte
		code  tee.Code
	}{
		"not made by a TPM": {put(0, 0), tee.CodeParse},
		"certify":           {put(5, 0x17), tee.CodeParse},
		"empty":             {nil, tee.CodeParse},
		"byte after it":     {append(bytes.Clone(good), 0), tee.CodeParse},
		"long signer":       {put(6, 0, 67), tee.CodeParse},
		"length overflows":  {put(6, 0xFF, 0xF0), tee.CodeParse},
		"safe is 2":         {put(selection-9, 2), tee.CodeParse},
		"many banks":        {put(selection, 0, 0, 0, 9), tee.CodeParse},
		"banks overflow":    {put(selection, 0xFF, 0xFF, 0xFF, 0xF0), tee.CodeParse},
		"long selection":    {put(selection+6, 5), tee.CodeParse},
		"SM3":               {put(selection+4, 0, 0x12), tee.CodeUnsupported},
		"bank selected twice": {tpmtest.EncodeQuote(func() tpm.Quote {
			q := c.Quote(nil)
			q.Selections = append(q.Selections, q.Selections[0])
			return q
		}()), tee.CodeParse},
		"nothing selected": {tpmtest.EncodeQuote(func() tpm.Quote {
			q := c.Quote(nil)
			q.Selections, q.PCRDigest = nil, eventlog.SHA256.Sum()
			return q
		}()), tee.CodeParse}, // in our format the values given are not quoted then
		"other digest": {tpmtest.EncodeQuote(func() tpm.Quote {
			q := c.Quote(nil)
			q.PCRDigest[0] ^= 1
			return q
		}()), tee.CodeBinding},
		"other registers": {tpmtest.EncodeQuote(func() tpm.Quote {
			q := c.Quote(nil)
			q.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{16}}}
			return q
		}()), tee.CodeBinding},
	} {
		t.Run(name, func(t *testing.T) { refuses(t, evidence(t, c.Statement(x.quote)), c.Input(t), x.code) })
	}
	empty := c.Statement(tpmtest.EncodeQuote(tpm.Quote{PCRDigest: eventlog.SHA256.Sum()}))
	empty.PCRs = nil
	refuses(t, evidence(t, empty), c.Input(t), tee.CodeBinding)
}

// TestRefusesStatements changes parts of a good statement.
func TestRefusesStatements(t *testing.T) {
	c, other := chip(t, tpm.ECDSA), tpmtest.New(t, tpm.ECDSA)
	rsaChip := chip(t, tpm.RSASSA)
	for name, x := range map[string]struct {
		change func(*tpm.Statement)
		codes  []tee.Code
	}{
		"value changed":        {func(s *tpm.Statement) { s.PCRs[eventlog.SHA256][4] = make([]byte, 32) }, []tee.Code{tee.CodeBinding}},
		"value missing":        {func(s *tpm.Statement) { delete(s.PCRs[eventlog.SHA256], 4) }, []tee.Code{tee.CodeBinding}},
		"value short":          {func(s *tpm.Statement) { s.PCRs[eventlog.SHA256][4] = make([]byte, 20) }, []tee.Code{tee.CodeBinding}},
		"value not quoted":     {func(s *tpm.Statement) { s.PCRs[eventlog.SHA256][16] = make([]byte, 32) }, []tee.Code{tee.CodeParse}},
		"bank not quoted":      {func(s *tpm.Statement) { s.PCRs[eventlog.SHA1] = map[uint32][]byte{0: nil} }, []tee.Code{tee.CodeParse}},
		"empty bank":           {func(s *tpm.Statement) { s.PCRs[eventlog.SHA1] = map[uint32][]byte{} }, []tee.Code{tee.CodeParse}},
		"no values":            {func(s *tpm.Statement) { s.PCRs = nil }, []tee.Code{tee.CodeBinding}},
		"no signature":         {func(s *tpm.Statement) { s.Signature = nil }, []tee.Code{tee.CodeParse}},
		"signature of another": {func(s *tpm.Statement) { s.Signature = other.Sign(s.Quote) }, []tee.Code{tee.CodeSignature}},
		"signature of RSA":     {func(s *tpm.Statement) { s.Signature = rsaChip.Sign(s.Quote) }, []tee.Code{tee.CodeSignature}},
		"r and s zero":         {func(s *tpm.Statement) { s.Signature = []byte{0, 0x18, 0, 0x0B, 0, 0, 0, 0} }, []tee.Code{tee.CodeSignature}},
		"r too long":           {func(s *tpm.Statement) { s.Signature = []byte{0, 0x18, 0, 0x0B, 0xFF, 0xF0, 0, 0} }, []tee.Code{tee.CodeParse}},
		"HMAC":                 {func(s *tpm.Statement) { s.Signature = []byte{0, 0x05, 0, 0x0B, 0, 0} }, []tee.Code{tee.CodeUnsupported}},
		"SM3":                  {func(s *tpm.Statement) { s.Signature = []byte{0, 0x18, 0, 0x12, 0, 0, 0, 0} }, []tee.Code{tee.CodeUnsupported}},
		"SHA-1 of another":     {func(s *tpm.Statement) { o := *other; o.Hash = eventlog.SHA1; s.Signature = o.Sign(s.Quote) }, []tee.Code{tee.CodeBinding, tee.CodeSignature, tee.CodeUnsupported}},
		"no key":               {func(s *tpm.Statement) { s.AKPublic = nil }, []tee.Code{tee.CodeChain}},
		"key is no structure":  {func(s *tpm.Statement) { s.AKPublic = []byte{0, 0x23} }, []tee.Code{tee.CodeParse}},
		"key of another":       {func(s *tpm.Statement) { s.AKPublic = other.Public() }, []tee.Code{tee.CodeChain, tee.CodeSignature}},
		"certificate is none":  {func(s *tpm.Statement) { s.AKCertificate = []byte{0x30, 0} }, []tee.Code{tee.CodeParse}},
	} {
		t.Run(name, func(t *testing.T) {
			s := quoted(c)
			x.change(s)
			refuses(t, evidence(t, s), c.Input(t), x.codes...)
		})
	}
	ev := evidence(t, quoted(c))
	for _, kind := range []tee.Kind{"", tee.AzureSNP} {
		refuses(t, tee.Evidence{Kind: kind, Data: ev.Data}, c.Input(t), tee.CodeUnknownFormat)
	}
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: make([]byte, tee.MaxEvidence+1)}, c.Input(t), tee.CodeParse)
	refuses(t, tee.Evidence{Kind: tee.TPM, Data: []byte("\xA5\x64pcrs\xA0\x65quote\x40")}, c.Input(t), tee.CodeParse)
}

// TestRefusesKeys has keys that sign, and are not attestation keys.
func TestRefusesKeys(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	for name, attributes := range map[string]tpm.Attributes{
		"not restricted": tpmtest.AKAttributes &^ tpm.Restricted, "not fixed to its TPM": tpmtest.AKAttributes &^ tpm.FixedTPM,
		"not fixed to its parent": tpmtest.AKAttributes &^ tpm.FixedParent, "made outside": tpmtest.AKAttributes &^ tpm.SensitiveDataOrigin,
		"decrypts": tpmtest.AKAttributes | tpm.Decrypt, "does not sign": tpmtest.AKAttributes &^ tpm.Sign, "none": 0,
	} {
		t.Run(name, func(t *testing.T) {
			c.Attributes = attributes
			refuses(t, evidence(t, quoted(c)), c.Input(t), tee.CodeUnsupported)
		})
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := tpmtest.EncodePublic(p224.Public(), tpmtest.AKAttributes, tpm.ECDSA, uint16(eventlog.SHA256), 0)
	put := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	for name, x := range map[string]struct {
		public []byte
		code   tee.Code
	}{
		"RSA of 1024 bits":      {tpmtest.EncodePublic(small.Public(), tpmtest.AKAttributes, tpm.RSASSA, uint16(eventlog.SHA256), 0), tee.CodeUnsupported},
		"RSA of other bits":     {put(chip(t, tpm.RSASSA).Public(), 16, 0x10, 0), tee.CodeUnsupported},
		"RSA exponent 2":        {put(chip(t, tpm.RSASSA).Public(), 18, 0, 0, 0, 2), tee.CodeUnsupported},
		"RSA exponent too long": {put(chip(t, tpm.RSASSA).Public(), 18, 0xFF, 0xFF, 0xFF, 0xFF), tee.CodeUnsupported},
		"other kind":            {put(good, 0, 0, 8), tee.CodeUnsupported},
		"name of SHA-1":         {put(good, 2, 0, 4), tee.CodeUnsupported},
		"name of SM3":           {put(good, 2, 0, 0x12), tee.CodeUnsupported},
		"other curve":           {put(good, 16, 0, 0x10), tee.CodeUnsupported},
		"wrong curve":           {put(good, 16, 0, 3), tee.CodeUnsupported},
		"not on the curve":      {put(good, len(good)-1, good[len(good)-1]^1), tee.CodeUnsupported},
		"long policy":           {put(good, 8, 0xFF, 0xF0), tee.CodeParse},
		"Camellia":              {put(good, 10, 0, 0x26), tee.CodeUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tpm.ParsePublic(x.public)
			if failures := tpm.Failures(err); err == nil || failures[0].Code != x.code {
				t.Errorf("error %v, want %s", err, x.code)
			}
		})
	}
	if _, err := tpm.ParsePublic(good); err != nil {
		t.Error(err)
	}
}

func TestEventLog(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	ev := evidence(t, quoted(c))
	claims, _ := verifies(t, ev, c.Input(t))
	if _, ok := claims.Vendor["secure_boot"]; ok || claims.Vendor["event_log"] != false {
		t.Errorf("claims %v without a log", claims.Vendor)
	}
	ev.EventLog = c.Log
	verifies(t, ev, c.Input(t))
	altered := bytes.Clone(c.Log)
	at := bytes.Index(altered, []byte{0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0x0B, 0}) // the first separator
	altered[at+14] ^= 1
	otherBoot := tpmtest.WithKey(c.Key, tpm.ECDSA)
	otherBoot.Boot(false)
	sha1 := (&eventlog.Log{Events: []eventlog.Event{eventlog.NewEvent(0, eventlog.TypeSeparator, make([]byte, 4), make([]byte, 4), eventlog.SHA1)}}).Encode()
	for name, x := range map[string]struct {
		log  []byte
		code tee.Code
	}{
		"altered digest": {altered, tee.CodeEventLog}, "other boot": {otherBoot.Log, tee.CodeEventLog}, "only SHA-1": {sha1, tee.CodeEventLog},
		"no log": {[]byte("log"), tee.CodeParse}, "too long": {make([]byte, tee.MaxEventLog+1), tee.CodeParse}, "one event less": {c.Log[:len(c.Log)-1], tee.CodeParse},
	} {
		t.Run(name, func(t *testing.T) {
			ev.EventLog = x.log
			refuses(t, ev, c.Input(t), x.code)
		})
	}
}
