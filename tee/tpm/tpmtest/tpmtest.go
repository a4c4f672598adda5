// Package tpmtest gives other packages' tests a TPM of their own: attestation
// keys, quotes that they sign, good or wrong in any way, registers with the event
// log of a boot, and an authority that certifies keys.
//
// It protects nothing and is for tests only. It is no emulator: it makes the
// structures that a TPM makes and takes no commands.
package tpmtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// At is a time at which everything that this package makes is valid, unless it
// was asked for otherwise.
var At = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// AKAttributes are those of an attestation key.
const AKAttributes = tpm.FixedTPM | tpm.FixedParent | tpm.SensitiveDataOrigin | tpm.UserWithAuth | tpm.Restricted | tpm.Sign

// TPM is a TPM with an attestation key. It is a [tee.Attester].
type TPM struct {
	Key        crypto.Signer
	Scheme     tpm.Scheme
	Hash       eventlog.Algorithm
	Attributes tpm.Attributes
	PCRs       tpm.Banks // of SHA-256 and SHA-384, all 24
	Log        []byte    // that replays to them
	// Template is what quotes have; extra data is put in.
	Template tpm.Quote
	// Certificate is sent along in the statement; nil: none.
	Certificate []byte
}

// New returns a TPM that booted with Secure Boot, with a key of the scheme
// (RSASSA, RSAPSS with RSA-2048; ECDSA with P-256) and SHA-256.
func New(tb testing.TB, scheme tpm.Scheme) *TPM {
	tb.Helper()
	return WithKey(NewKey(tb, scheme), scheme)
}

// WithKey is New with a key that is there already.
func WithKey(key crypto.Signer, scheme tpm.Scheme) *TPM {
	t := &TPM{Key: key, Scheme: scheme, Hash: eventlog.SHA256, Attributes: AKAttributes}
	t.Boot(true)
	t.Template = tpm.Quote{
		QualifiedSigner: append([]byte{0, 0x0B}, bytes.Repeat([]byte{0x51}, 32)...), Clock: 12345, ResetCount: 3, RestartCount: 1, Safe: true,
		FirmwareVersion: 0x20160511, Selections: []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}},
	}
	return t
}

// NewKey returns a key for a scheme.
func NewKey(tb testing.TB, scheme tpm.Scheme) crypto.Signer {
	tb.Helper()
	var key crypto.Signer
	var err error
	if scheme == tpm.ECDSA {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Boot resets the registers and measures a boot into them, with a log.
func (t *TPM) Boot(secureBoot bool) {
	algorithms := []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}
	event := func(register uint32, kind eventlog.Type, data []byte, what string) eventlog.Event {
		measured := data
		if what != "" {
			measured = []byte(what)
		}
		return eventlog.NewEvent(register, kind, data, measured, algorithms...)
	}
	value := byte(0)
	if secureBoot {
		value = 1
	}
	variable := append([]byte("\x61\xDF\xE4\x8B\xCA\x93\xD2\x11\xAA\x0D\x00\xE0\x98\x03\x2B\x8C\x0A\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00"), value)
	log := &eventlog.Log{Agile: true, Algorithms: algorithms, Events: []eventlog.Event{
		event(0, eventlog.TypeCRTMVersion, []byte("t\x00e\x00s\x00t\x00\x00\x00"), ""),
		event(7, eventlog.TypeVariableConfig, variable, ""),
	}}
	for i := range uint32(8) {
		log.Events = append(log.Events, event(i, eventlog.TypeSeparator, make([]byte, 4), ""))
	}
	log.Events = append(log.Events,
		event(4, eventlog.TypeBootApplication, []byte("path"), "boot loader"),
		event(8, eventlog.TypeIPL, []byte("grub_cmd: linux /vmlinuz quiet\x00"), "linux /vmlinuz quiet"),
		event(8, eventlog.TypeIPL, []byte("kernel_cmdline: /vmlinuz quiet\x00"), "/vmlinuz quiet"),
		event(9, eventlog.TypeIPL, []byte("/vmlinuz\x00"), "kernel"),
	)
	t.Log = log.Encode()
	t.PCRs = make(tpm.Banks)
	for _, a := range algorithms {
		t.PCRs[a] = make(map[uint32][]byte)
		replayed, err := log.Replay(a)
		if err != nil {
			panic(err) // the log is ours
		}
		for i := range uint32(24) {
			t.PCRs[a][i] = make([]byte, a.Size())
			copy(t.PCRs[a][i], replayed[i])
		}
	}
}

// Measure extends a register in all banks with the digests of data, and adds the event
// to the log.
func (t *TPM) Measure(register uint32, kind eventlog.Type, data []byte) {
	log, err := eventlog.Parse(t.Log)
	if err != nil {
		panic(err) // the log is ours
	}
	e := eventlog.NewEvent(register, kind, data, data, log.Algorithms...)
	log.Events = append(log.Events, e)
	t.Log = log.Encode()
	for a, bank := range t.PCRs {
		bank[register] = a.Sum(bank[register], e.Digest(a))
	}
}

// Launch measures a launch as an agent does, and has quotes of PCR 0 to 9 and 15 from
// then on.
func (t *TPM) Launch(tb testing.TB, e launch.Event) {
	tb.Helper()
	b, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	t.Measure(eventlog.LaunchRegister, eventlog.TypeIPL, b)
	t.Template.Selections = []tpm.Selection{{Algorithm: eventlog.SHA256, Indices: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, eventlog.LaunchRegister}}}
}

// Kind is tee.TPM.
func (t *TPM) Kind() tee.Kind { return tee.TPM }

// Evidence returns a quote with reportData, with the log.
func (t *TPM) Evidence(_ context.Context, reportData [64]byte) (tee.Evidence, error) {
	q := t.Quote(reportData[:])
	data, err := t.Statement(EncodeQuote(q)).Encode()
	if err != nil {
		return tee.Evidence{}, err
	}
	return tee.Evidence{Kind: tee.TPM, Data: data, EventLog: t.Log}, nil
}

// Quote returns the template with extra data and the digest of the registers that
// it selects.
func (t *TPM) Quote(extraData []byte) tpm.Quote {
	q := t.Template
	q.ExtraData = extraData
	var parts [][]byte
	for _, s := range q.Selections {
		for _, i := range s.Indices {
			parts = append(parts, t.PCRs[s.Algorithm][i])
		}
	}
	q.PCRDigest = t.Hash.Sum(parts...)
	return q
}

// Statement returns a statement of any quote, signed, with the values of the
// template's registers.
func (t *TPM) Statement(quote []byte) *tpm.Statement {
	s := &tpm.Statement{Quote: quote, Signature: t.Sign(quote), AKPublic: t.Public(), AKCertificate: t.Certificate, PCRs: make(tpm.Banks)}
	for _, sel := range t.Template.Selections {
		s.PCRs[sel.Algorithm] = make(map[uint32][]byte)
		for _, i := range sel.Indices {
			s.PCRs[sel.Algorithm][i] = t.PCRs[sel.Algorithm][i]
		}
	}
	return s
}

// TrustedAK is the collateral that enrols the keys of the given TPMs.
func TrustedAK(tb testing.TB, tpms ...*TPM) map[string][]byte {
	tb.Helper()
	var b []byte
	for _, t := range tpms {
		der, err := x509.MarshalPKIXPublicKey(t.Key.Public())
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return map[string][]byte{tpm.TrustedAK: b}
}

// Input is At with the TPM's key enrolled.
func (t *TPM) Input(tb testing.TB) tee.Input {
	tb.Helper()
	return tee.Input{At: At, Endorsements: tee.Endorsements{Collateral: TrustedAK(tb, t)}}
}

// Interface guard.
var _ tee.Attester = (*TPM)(nil)
