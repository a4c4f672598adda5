// Package akca is an attestation CA for TPMs ("TCG EK Credential Profile" section
// 3.1, "Attestation CA"): it certifies the attestation key of a TPM after the TPM
// has proven that it holds it beside an endorsement key that the maker vouches for.
// Evidence with such a certificate verifies by itself, with the CA as root.
//
// An attester asks twice: [Authority.Challenge] gives it a secret that only its TPM
// can open (TPM2_MakeCredential), and [Authority.Certify] takes that secret back and
// gives the certificate.
//
// # What it protects against
//
// Attestation keys that are in no TPM, in another one than the endorsement key says,
// or that sign what no TPM made; makers that nobody trusts; answers to a challenge
// that were given before, or late; and, with [Config.Began], a TPM whose memory was put
// back. A certificate of an emulated TPM says so
// (tee.EmulatedTPM), as the one of its endorsement key does.
//
// # What it does not protect against
//
// What a machine with a genuine TPM runs: a certificate says who signs, and the
// quote says what was booted. Endorsement keys that their maker has revoked, when
// its revocation lists were not given.
package akca

import (
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Bounds of an authority.
const (
	Lifetime      = 90 * 24 * time.Hour // of a certificate
	ChallengeTime = 2 * time.Minute     // in which a challenge must be answered
	MaxChallenges = 4096                // that are open
	MaxChain      = 8                   // certificates of an endorsement key
	secretSize    = 32
	idSize        = 16
)

// Where a node answers, by POST of JSON over the attested channel.
const (
	PathChallenge = "/v1/tpm/challenge" // ChallengeRequest -> Challenge
	PathCertify   = "/v1/tpm/certify"   // CertifyRequest -> Certified
)

// ErrChallenge means that a challenge is unknown, was answered before, is too old,
// or was not opened by its TPM. Ask for another one.
var ErrChallenge = errors.New("no such challenge, or another secret than it has")

// ChallengeRequest is what an attester says about its TPM.
type ChallengeRequest struct {
	// EKCertificates are DER: the maker's certificate of the endorsement key, then
	// those of its issuers.
	EKCertificates [][]byte `json:"ek_certificates"`
	// EKPublic and AKPublic are TPMT_PUBLIC.
	EKPublic []byte `json:"ek_public"`
	AKPublic []byte `json:"ak_public"`
}

// Challenge is what only the TPM can open: the parameters of TPM2_ActivateCredential
// without their lengths.
type Challenge struct {
	ID              []byte `json:"id"`
	CredentialBlob  []byte `json:"credential_blob"`
	EncryptedSecret []byte `json:"encrypted_secret"`
}

// CertifyRequest answers a challenge.
type CertifyRequest struct {
	ID     []byte `json:"id"`
	Secret []byte `json:"secret"`
	// Boot is the boot token that the TPM keeps, none if it is new; see
	// [Config.Began].
	Boot []byte `json:"boot,omitempty"`
}

// Certified is the certificate of an attestation key.
type Certified struct {
	Certificate []byte    `json:"certificate"` // DER
	Expires     time.Time `json:"expires"`
	// Boot is the boot token that the TPM is to keep from now on.
	Boot []byte `json:"boot,omitempty"`
}

// Config says what an [Authority] needs.
type Config struct {
	// Issuer is the authority's certificate ([NewIssuer]), and Signer its key.
	Issuer *x509.Certificate
	Signer crypto.Signer
	// Makers are the roots of makers of TPMs, and what they publish; At is set from
	// Now.
	Makers func() tee.Input
	// Began is told of each attestation key before it is certified, with the boot
	// token that its TPM keeps, and returns the next one. With an error there is no
	// certificate. Nil has no tokens.
	Began func(ak *tpm.Public, boot []byte) ([]byte, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authority certifies attestation keys. It is safe for concurrent use.
type Authority struct {
	cfg Config

	mu   sync.Mutex
	open map[[idSize]byte]pending
}

// pending is a challenge that was not answered yet.
type pending struct {
	secret      [secretSize]byte
	ak          *tpm.Public
	endorsement *tpm.Endorsement
	until       time.Time
}

// New returns an authority.
func New(cfg Config) *Authority {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Authority{cfg: cfg, open: map[[idSize]byte]pending{}}
}

// NewIssuer returns the self-signed certificate of an authority with that key. It is
// good for nothing but certifying keys, does not expire (RFC 5280 section 4.1.2.5),
// and is the same each time but for its signature.
func NewIssuer(signer crypto.Signer) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cloister attestation key authority"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("make attestation key authority: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Challenge checks what an attester says and makes the challenge for it. The error
// is a *tee.VerifyError that lists everything that is wrong.
func (a *Authority) Challenge(r ChallengeRequest) (Challenge, error) {
	now := a.cfg.Now()
	ek, ak, endorsement, failures := a.check(r, now)
	if len(failures) > 0 {
		return Challenge{}, &tee.VerifyError{Kind: tee.TPM, Failures: failures}
	}
	p := pending{ak: ak, endorsement: endorsement, until: now.Add(ChallengeTime)}
	rand.Read(p.secret[:])
	var id [idSize]byte
	rand.Read(id[:])
	blob, secret, err := tpm.MakeCredential(ek, ak.Name(), p.secret[:])
	if err != nil {
		return Challenge{}, refuse(tee.CodeUnsupported, "endorsement key", "one that challenges can be made for", err.Error())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, p := range a.open {
		if now.After(p.until) {
			delete(a.open, id)
		}
	}
	if len(a.open) >= MaxChallenges {
		return Challenge{}, &tee.Error{Code: tee.CodeUnavailable, Op: "challenge TPM", Err: fmt.Errorf("%d challenges are open", MaxChallenges), Hint: "try again in a moment"}
	}
	a.open[id] = p
	return Challenge{ID: id[:], CredentialBlob: blob, EncryptedSecret: secret}, nil
}

// check lists what is wrong with a request.
func (a *Authority) check(r ChallengeRequest, now time.Time) (ek, ak *tpm.Public, e *tpm.Endorsement, failures []tee.Failure) {
	if n := len(r.EKCertificates); n > MaxChain {
		return nil, nil, nil, []tee.Failure{{Code: tee.CodeParse, Claim: "ek certificates", Want: fmt.Sprintf("at most %d", MaxChain), Got: fmt.Sprint(n)}}
	}
	in := a.cfg.Makers()
	in.At = now
	e, failures = tpm.CheckEndorsement(r.EKCertificates, in)
	ak, err := tpm.ParsePublic(r.AKPublic)
	if err != nil {
		failures = append(failures, tpm.Failures(err)...)
	} else {
		failures = append(failures, ak.CheckAK()...)
	}
	ek, err = tpm.ParsePublic(r.EKPublic)
	if err != nil {
		failures = append(failures, tpm.Failures(err)...)
	} else if e != nil && tpm.KeyID(ek.Key) != tpm.KeyID(e.Key) {
		failures = append(failures, tee.Failure{
			Code: tee.CodeBinding, Claim: "endorsement key", Want: "the one of the maker's certificate", Got: "another key",
			Hint: "the certificate is of another TPM",
		})
	}
	return ek, ak, e, failures
}

// Certify takes the secret of a challenge and returns the certificate. A challenge
// is taken once, also with a wrong secret ([ErrChallenge]).
func (a *Authority) Certify(r CertifyRequest) (Certified, error) {
	now := a.cfg.Now()
	if len(r.ID) != idSize {
		return Certified{}, ErrChallenge
	}
	id := [idSize]byte(r.ID)
	a.mu.Lock()
	p, ok := a.open[id]
	delete(a.open, id)
	a.mu.Unlock()
	if !ok || now.After(p.until) || subtle.ConstantTimeCompare(r.Secret, p.secret[:]) != 1 {
		return Certified{}, ErrChallenge
	}
	var boot []byte
	if a.cfg.Began != nil {
		var err error
		if boot, err = a.cfg.Began(p.ak, r.Boot); err != nil {
			return Certified{}, err
		}
	}
	until := now.Add(Lifetime).UTC().Truncate(time.Second)
	der, err := p.endorsement.Certify(p.ak, a.cfg.Issuer, a.cfg.Signer, now.Add(-time.Hour), until)
	if err != nil {
		return Certified{}, err
	}
	return Certified{Certificate: der, Expires: until, Boot: boot}, nil
}

func refuse(code tee.Code, claim, want, got string) error {
	return tee.Refuse(tee.TPM, code, claim, want, got, "")
}
