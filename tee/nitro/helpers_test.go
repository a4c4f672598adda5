package nitro_test

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/nitro/nitrotest"
)

// shared is the AWS and the enclave that tests share.
var shared struct {
	sync.Mutex
	aws     *nitrotest.AWS
	enclave *nitrotest.Enclave
}

func aws(tb testing.TB) (*nitrotest.AWS, *nitrotest.Enclave) {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.aws == nil {
		shared.aws = nitrotest.New(tb)
		shared.enclave = shared.aws.Enclave(tb)
	}
	return shared.aws, shared.enclave
}

// When the real documents in testdata were fresh.
var (
	at2021 = time.Date(2021, 3, 17, 22, 2, 0, 0, time.UTC)
	at2024 = time.Date(2024, 1, 24, 18, 15, 0, 0, time.UTC)
)

func realDocument(tb testing.TB, name string) tee.Evidence {
	tb.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return tee.Evidence{Kind: tee.Nitro, Data: b}
}

// verifies checks that evidence verifies, with a new verifier.
func verifies(tb testing.TB, ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding) {
	tb.Helper()
	claims, findings, err := nitro.New().Verify(ev, in)
	if err != nil {
		tb.Fatal(err)
	}
	return claims, findings
}

// refuses checks that a new verifier refuses evidence with exactly these codes.
func refuses(tb testing.TB, ev tee.Evidence, in tee.Input, codes ...tee.Code) {
	tb.Helper()
	claims, findings, err := nitro.New().Verify(ev, in)
	wantCodes(tb, claims, err, codes...)
	if findings != nil {
		tb.Errorf("findings beside an error: %v", findings)
	}
}

// wantCodes checks that verification refused with exactly these codes, each at
// least once, and gave no claims.
func wantCodes(tb testing.TB, claims tee.Claims, err error, codes ...tee.Code) {
	tb.Helper()
	e, ok := errors.AsType[*tee.VerifyError](err)
	if !ok || e.Kind != tee.Nitro || !errors.Is(err, tee.ErrNotVerified) {
		tb.Fatalf("got %v, want a *tee.VerifyError with %v", err, codes)
	}
	var got []tee.Code
	for _, f := range e.Failures {
		if !slices.Contains(got, f.Code) {
			got = append(got, f.Code)
		}
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(codes)); !slices.Equal(got, want) {
		tb.Fatalf("refused with %v, want %v: %v", got, want, err)
	}
	if claims.TEE != "" || claims.Measurement != nil || claims.Vendor != nil {
		tb.Fatalf("claims beside an error: %+v", claims)
	}
}
