package akca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// lab is an authority, the makers that it trusts, and the clock.
type lab struct {
	*akca.Authority
	makers *tpmtest.Authority
	issuer *x509.Certificate
	now    time.Time
	began  func(*tpm.Public, []byte) ([]byte, error)
}

func newLab(t testing.TB) *lab {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{makers: tpmtest.NewAuthority(t, "maker of TPMs", nil, tpmtest.CertificateOptions{}), now: tpmtest.At}
	if l.issuer, err = akca.NewIssuer(key); err != nil {
		t.Fatal(err)
	}
	l.Authority = akca.New(akca.Config{
		Issuer: l.issuer, Signer: key, Makers: l.makers.Input, Now: func() time.Time { return l.now },
		Began: func(ak *tpm.Public, boot []byte) ([]byte, error) {
			if l.began == nil {
				return nil, nil
			}
			return l.began(ak, boot)
		},
	})
	return l
}

// machine is a real TPM, with the certificate of its maker.
type machine struct {
	*tpm.Attester
	ek          *tpm.Public
	certificate []byte
}

func (l *lab) machine(t testing.TB, o tpmtest.CertificateOptions) *machine {
	t.Helper()
	conn, _ := tpmtest.Software(t, t.TempDir())
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	m := &machine{Attester: a}
	if m.ek, err = a.EK(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.certificate = l.makers.Certify(t, m.ek.Key, o)
	return m
}

func (m *machine) request() akca.ChallengeRequest {
	return akca.ChallengeRequest{EKCertificates: [][]byte{m.certificate}, EKPublic: m.ek.Bytes(), AKPublic: m.AK().Bytes()}
}

// answer opens a challenge.
func (m *machine) answer(t testing.TB, c akca.Challenge) akca.CertifyRequest {
	t.Helper()
	secret, err := m.ActivateCredential(t.Context(), c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	return akca.CertifyRequest{ID: c.ID, Secret: secret}
}

// TestCertificate: evidence with a certificate verifies under the authority, and says
// whether the TPM is emulated.
func TestCertificate(t *testing.T) {
	l := newLab(t)
	for _, emulated := range []bool{false, true} {
		o := tpmtest.Endorsement()
		o.Emulated = emulated
		m := l.machine(t, o)
		var told []byte
		l.began = func(ak *tpm.Public, boot []byte) ([]byte, error) {
			told = boot
			if !bytes.Equal(ak.Name(), m.AK().Name()) {
				t.Error("told of another key")
			}
			return []byte("next"), nil
		}
		c, err := l.Challenge(m.request())
		if err != nil {
			t.Fatal(err)
		}
		answer := m.answer(t, c)
		answer.Boot = []byte("kept")
		certified, err := l.Certify(answer)
		if err != nil || string(told) != "kept" || string(certified.Boot) != "next" || !certified.Expires.Equal(l.now.Add(akca.Lifetime)) {
			t.Fatalf("%+v, told %q, %v", certified, told, err)
		}
		ev, err := m.Evidence(t.Context(), [64]byte{7})
		if err != nil {
			t.Fatal(err)
		}
		ev.Certificates = [][]byte{certified.Certificate}
		claims, _, err := tpm.New().Verify(ev, tee.Input{At: l.now, Roots: tee.Roots{l.issuer}})
		if err != nil || claims.Simulated != emulated || claims.Vendor["ak_trust"] != "certificate" {
			t.Errorf("emulated %t: claims %+v, %v", emulated, claims, err)
		}
		if _, _, err := tpm.New().Verify(ev, tee.Input{At: l.now.Add(akca.Lifetime + time.Hour), Roots: tee.Roots{l.issuer}}); err == nil {
			t.Error("a certificate that has run out verifies")
		}
	}
}

// TestChallengeRefuses what a TPM's maker does not vouch for, naming why.
func TestChallengeRefuses(t *testing.T) {
	l := newLab(t)
	m, other := l.machine(t, tpmtest.Endorsement()), l.machine(t, tpmtest.Endorsement())
	stranger := tpmtest.NewAuthority(t, "nobody's maker", nil, tpmtest.CertificateOptions{})
	plain := tpmtest.Endorsement()
	plain.Purposes = nil // of an attestation key
	late := tpmtest.Endorsement()
	late.To = l.now.Add(-time.Hour)
	for name, c := range map[string]struct {
		change func(*akca.ChallengeRequest)
		code   tee.Code
	}{
		"no certificate":         {func(r *akca.ChallengeRequest) { r.EKCertificates = nil }, tee.CodeParse},
		"no certificate's bytes": {func(r *akca.ChallengeRequest) { r.EKCertificates = [][]byte{{1}} }, tee.CodeParse},
		"too many":               {func(r *akca.ChallengeRequest) { r.EKCertificates = make([][]byte, akca.MaxChain+1) }, tee.CodeParse},
		"foreign maker": {func(r *akca.ChallengeRequest) {
			r.EKCertificates[0] = stranger.Certify(t, m.ek.Key, tpmtest.Endorsement())
		}, tee.CodeChain},
		"certificate of another":    {func(r *akca.ChallengeRequest) { r.EKCertificates[0] = other.certificate }, tee.CodeBinding},
		"key of another":            {func(r *akca.ChallengeRequest) { r.EKPublic = other.ek.Bytes() }, tee.CodeBinding},
		"certificate for something": {func(r *akca.ChallengeRequest) { r.EKCertificates[0] = l.makers.Certify(t, m.ek.Key, plain) }, tee.CodeChain},
		"certificate that ran out":  {func(r *akca.ChallengeRequest) { r.EKCertificates[0] = l.makers.Certify(t, m.ek.Key, late) }, tee.CodeExpired},
		"no attestation key":        {func(r *akca.ChallengeRequest) { r.AKPublic = nil }, tee.CodeParse},
		"endorsement key as one":    {func(r *akca.ChallengeRequest) { r.AKPublic = m.ek.Bytes() }, tee.CodeUnsupported},
		"attestation key as EK":     {func(r *akca.ChallengeRequest) { r.EKPublic = m.AK().Bytes() }, tee.CodeBinding},
	} {
		r := m.request()
		c.change(&r)
		got, err := l.Challenge(r)
		e, ok := errors.AsType[*tee.VerifyError](err)
		if !ok || !slices.ContainsFunc(e.Failures, func(f tee.Failure) bool { return f.Code == c.code }) || got.ID != nil {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// TestForeignKeys: a challenge for one TPM's keys is of no use to another.
func TestForeignKeys(t *testing.T) {
	l := newLab(t)
	m, other := l.machine(t, tpmtest.Endorsement()), l.machine(t, tpmtest.Endorsement())
	mixed := m.request()
	mixed.AKPublic = other.AK().Bytes() // a key that is in another TPM
	for name, r := range map[string]akca.ChallengeRequest{"attestation key of another TPM": mixed, "another TPM's challenge": other.request()} {
		c, err := l.Challenge(r)
		if err != nil {
			t.Fatal(err)
		}
		if secret, err := m.ActivateCredential(t.Context(), c.CredentialBlob, c.EncryptedSecret); err == nil {
			t.Errorf("%s: opened %x", name, secret)
		}
	}
	c, err := l.Challenge(mixed)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := other.ActivateCredential(t.Context(), c.CredentialBlob, c.EncryptedSecret); err == nil {
		t.Errorf("the TPM of the attestation key alone opened %x", secret)
	}
}

// TestAnswers: a challenge is answered once, in time, with its secret.
func TestAnswers(t *testing.T) {
	l := newLab(t)
	m := l.machine(t, tpmtest.Endorsement())
	open := func() akca.CertifyRequest {
		t.Helper()
		c, err := l.Challenge(m.request())
		if err != nil {
			t.Fatal(err)
		}
		return m.answer(t, c)
	}
	refused := func(what string, r akca.CertifyRequest) {
		t.Helper()
		if got, err := l.Certify(r); !errors.Is(err, akca.ErrChallenge) || got.Certificate != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := open()
	if _, err := l.Certify(good); err != nil {
		t.Fatal(err)
	}
	refused("answered before", good)
	wrong := open()
	right := wrong
	wrong.Secret = bytes.Clone(wrong.Secret)
	wrong.Secret[0] ^= 1
	refused("wrong secret", wrong)
	refused("right secret after a wrong one", right)
	refused("no secret", akca.CertifyRequest{ID: open().ID})
	refused("unknown", akca.CertifyRequest{ID: make([]byte, 16), Secret: good.Secret})
	refused("no name", akca.CertifyRequest{Secret: good.Secret})
	late := open()
	l.now = l.now.Add(akca.ChallengeTime + time.Second)
	refused("late", late)
	l.began = func(*tpm.Public, []byte) ([]byte, error) { return nil, errors.New("rolled back") }
	if got, err := l.Certify(open()); err == nil || errors.Is(err, akca.ErrChallenge) || got.Certificate != nil {
		t.Errorf("a boot that is refused: %+v, %v", got, err)
	}
}

func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	issuer, err := akca.NewIssuer(key)
	if err != nil {
		panic(err)
	}
	a := akca.New(akca.Config{Issuer: issuer, Signer: key, Makers: func() tee.Input { return tee.Input{} }})
	_, err = a.Challenge(akca.ChallengeRequest{}) // of a machine that shows nothing
	fmt.Println(errors.Is(err, tee.ErrNotVerified))
	// Output: true
}
