package tpm_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// keys are shared by tests, because RSA keys take time to make.
var keys struct {
	sync.Mutex
	of map[tpm.Scheme]crypto.Signer
}

// chip is a TPM with a shared key.
func chip(tb testing.TB, scheme tpm.Scheme) *tpmtest.TPM {
	tb.Helper()
	keys.Lock()
	defer keys.Unlock()
	if keys.of == nil {
		keys.of = make(map[tpm.Scheme]crypto.Signer)
	}
	if keys.of[scheme] == nil {
		keys.of[scheme] = tpmtest.NewKey(tb, scheme)
	}
	return tpmtest.WithKey(keys.of[scheme], scheme)
}

// trusted is the collateral that enrols a key.
func trusted(tb testing.TB, key crypto.PublicKey) map[string][]byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string][]byte{tpm.TrustedAK: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// evidence is that of a statement.
func evidence(tb testing.TB, s *tpm.Statement) tee.Evidence {
	tb.Helper()
	b, err := s.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.TPM, Data: b}
}

// quoted is a good statement of a TPM.
func quoted(t *tpmtest.TPM) *tpm.Statement {
	return t.Statement(tpmtest.EncodeQuote(t.Quote(make([]byte, 64))))
}

// verifies checks that evidence verifies.
func verifies(tb testing.TB, ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding) {
	tb.Helper()
	claims, findings, err := tpm.New().Verify(ev, in)
	if err != nil {
		tb.Fatal(err)
	}
	return claims, findings
}

// refuses checks that evidence is refused with exactly these codes, each at least
// once, and without claims.
func refuses(tb testing.TB, ev tee.Evidence, in tee.Input, codes ...tee.Code) {
	tb.Helper()
	claims, findings, err := tpm.New().Verify(ev, in)
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.TPM || !errors.Is(err, tee.ErrNotVerified) {
		tb.Fatalf("got %v, want a *tee.VerifyError with %v", err, codes)
	}
	if got, want := codesOf(e.Failures), slices.Sorted(slices.Values(codes)); !slices.Equal(got, want) {
		tb.Fatalf("refused with %v, want %v: %v", got, want, err)
	}
	if claims.TEE != "" || claims.Measurement != nil || claims.Vendor != nil || findings != nil {
		tb.Fatalf("claims beside an error: %+v, findings %v", claims, findings)
	}
}

func codesOf(failures []tee.Failure) []tee.Code {
	var codes []tee.Code
	for _, f := range failures {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}
