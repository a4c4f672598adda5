package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Where Linux shows the TPM with its own resource manager, and the firmware's log.
const (
	DevicePath   = "/dev/tpmrm0"
	EventLogPath = "/sys/kernel/security/tpm0/binary_bios_measurements"
)

// Options say how an [Attester] works. The zero value is good.
type Options struct {
	// AK is the persistent handle (0x81000000 to 0x81FFFFFF) of an attestation key
	// that is there already, such as a cloud's with its certificate; 0 creates
	// one in the endorsement hierarchy, which is the same each time.
	AK uint32
	// PCRs are the registers of the SHA-256 bank to quote; nil: 0 to 9, which
	// [Measurement] is over.
	PCRs []uint32
	// Certificates are DER certificates to send along: the attestation key's and
	// its issuers'.
	Certificates [][]byte
	// EventLog returns the firmware's log to send along; nil: none.
	EventLog func() ([]byte, error)
}

// Attester asks a TPM for quotes. It is safe for concurrent use; commands take
// turns.
type Attester struct {
	mu      sync.Mutex
	tpm     io.ReadWriteCloser
	device  device
	options Options
	ak      uint32
	public  *Public
	created bool // the key has to be flushed
}

// Open returns an attester on this machine's TPM. Options.EventLog nil means the
// kernel's, if it can be read. The error is a *tee.Error with CodeUnavailable.
func Open(o Options) (*Attester, error) {
	f, err := openDevice(DevicePath)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open TPM", Err: err, Hint: "this needs a TPM 2.0, a kernel with its resource manager, and the group tss"}
	}
	if o.EventLog == nil {
		o.EventLog = func() ([]byte, error) { return readLog(EventLogPath) }
	}
	a, err := NewAttester(f, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// readLog reads a log that may be absent, and is not sent when it is too long.
func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil // a quote without a log is still a quote
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, tee.MaxEventLog+1))
	if err != nil || len(b) > tee.MaxEventLog {
		return nil, err
	}
	return b, nil
}

// NewAttester returns an attester on a TPM that takes commands by Write and gives
// responses by Read, and closes it when it is closed. The error is a *tee.Error
// with CodeUnavailable when the TPM does not do as it is told, or CodeUnsupported
// when options are wrong or the key is no attestation key.
func NewAttester(tpm io.ReadWriteCloser, o Options) (*Attester, error) {
	const op = "load attestation key"
	if o.PCRs == nil {
		for i := range uint32(bootPCRs) {
			o.PCRs = append(o.PCRs, i)
		}
	}
	o.PCRs = slices.Compact(slices.Sorted(slices.Values(o.PCRs)))
	if n := len(o.PCRs); n == 0 || o.PCRs[n-1] > 23 || o.AK != 0 && (o.AK < firstPersistent || o.AK > lastPersistent) {
		return nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New("PCRs are 0 to 23, and a persistent handle begins with 0x81")}
	}
	a := &Attester{tpm: tpm, device: device{tpm}, options: o, ak: o.AK}
	var err error
	if o.AK == 0 {
		a.ak, a.public, err = a.device.createPrimary(akTemplate())
		a.created = err == nil
	} else {
		a.public, err = a.device.readPublic(o.AK)
	}
	if err != nil {
		return nil, failed(op, err)
	}
	if failures := a.public.CheckAK(); len(failures) > 0 {
		return nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New(failures[0].String())}
	}
	return a, nil
}

// Kind is tee.TPM.
func (a *Attester) Kind() tee.Kind { return tee.TPM }

// AK is the public area of the attestation key.
func (a *Attester) AK() *Public { return a.public }

// Close flushes the key and closes the TPM.
func (a *Attester) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.created {
		err = a.device.flush(a.ak)
		a.created = false
	}
	return errors.Join(err, a.tpm.Close())
}

// Evidence returns a quote with reportData as extra data, the values of the
// quoted PCRs, and the log and certificates of the options. The error is a
// *tee.Error with CodeUnavailable. Some old TPMs take no more than 50 bytes of
// extra data.
func (a *Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	s, err := a.Quote(ctx, reportData[:])
	if err != nil {
		return tee.Evidence{}, err
	}
	data, err := s.Encode()
	if err != nil {
		return tee.Evidence{}, err
	}
	return tee.Evidence{Kind: tee.TPM, Data: data, Certificates: s.Certificates, EventLog: s.EventLog}, nil
}

// Quote is what Evidence is made of, for formats of others: the statement has the
// log and the certificates of the options too. extraData has at most 64 bytes. The
// error is a *tee.Error with CodeUnavailable.
func (a *Attester) Quote(ctx context.Context, extraData []byte) (*Statement, error) {
	const op = "quote"
	a.mu.Lock()
	defer a.mu.Unlock()
	var log []byte
	if a.options.EventLog != nil {
		var err error
		if log, err = a.options.EventLog(); err != nil {
			return nil, failed(op, err)
		}
	}
	s, err := a.quote(ctx, extraData)
	if err != nil {
		return nil, failed(op, err)
	}
	s.EventLog, s.Certificates = log, a.options.Certificates
	return s, nil
}

// quote reads the registers and quotes them, again if one was extended between.
func (a *Attester) quote(ctx context.Context, extraData []byte) (*Statement, error) {
	selection := Selection{Algorithm: eventlog.SHA256, Indices: a.options.PCRs}
	for range 5 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		values, err := a.device.readPCRs(selection)
		if err != nil {
			return nil, err
		}
		message, signature, err := a.device.quote(a.ak, extraData, selection)
		if err != nil {
			return nil, err
		}
		sig, err := ParseSignature(signature)
		if err != nil {
			return nil, err
		}
		banks := Banks{eventlog.SHA256: values}
		_, _, failures := CheckQuote(message, sig, a.public.Key, banks)
		if len(failures) == 0 {
			return &Statement{Quote: message, Signature: signature, PCRs: banks, AKPublic: a.public.Bytes()}, nil
		}
		if failures[0].Code != tee.CodeBinding {
			return nil, fmt.Errorf("the TPM's quote does not verify: %s", failures[0])
		}
	}
	return nil, errors.New("registers change faster than they can be quoted")
}

// EK returns the public area of the RSA endorsement key, for which the TPM's maker
// issues certificates.
func (a *Attester) EK(ctx context.Context) (*Public, error) {
	const op = "read endorsement key"
	var public *Public
	err := a.withEK(ctx, func(_ uint32, p *Public) error {
		public = p
		return nil
	})
	if err != nil {
		return nil, failed(op, err)
	}
	return public, nil
}

// ActivateCredential opens a challenge of [MakeCredential] for this TPM's
// endorsement key and this attestation key, and returns its secret. The error is
// a *tee.Error with CodeUnavailable: the challenge is for another key or TPM, or
// was altered.
func (a *Attester) ActivateCredential(ctx context.Context, credentialBlob, encryptedSecret []byte) ([]byte, error) {
	var secret []byte
	err := a.withEK(ctx, func(ek uint32, _ *Public) error {
		var err error
		secret, err = a.device.activate(a.ak, ek, credentialBlob, encryptedSecret)
		return err
	})
	if err != nil {
		return nil, failed("activate credential", err)
	}
	return bytes.Clone(secret), nil
}

// withEK calls f while the endorsement key is loaded.
func (a *Attester) withEK(ctx context.Context, f func(handle uint32, public *Public) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	template, err := ekTemplate()
	if err != nil {
		return err
	}
	ek, public, err := a.device.createPrimary(template)
	if err != nil {
		return err
	}
	return errors.Join(f(ek, public), a.device.flush(ek))
}

// Interface guard.
var _ tee.Attester = (*Attester)(nil)
