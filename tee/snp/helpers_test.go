package snp_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

var manufacturers struct {
	sync.Mutex
	of map[snp.Product]*snptest.Manufacturer
}

// manufacturer returns the one of a product that all tests share, because its
// keys take time to make.
func manufacturer(tb testing.TB, p snp.Product) *snptest.Manufacturer {
	tb.Helper()
	manufacturers.Lock()
	defer manufacturers.Unlock()
	if manufacturers.of == nil {
		manufacturers.of = make(map[snp.Product]*snptest.Manufacturer)
	}
	if manufacturers.of[p] == nil {
		manufacturers.of[p] = snptest.New(tb, p)
	}
	return manufacturers.of[p]
}

// verifies checks that evidence verifies, with a new verifier.
func verifies(t testing.TB, ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding) {
	t.Helper()
	claims, findings, err := snp.New().Verify(ev, in)
	if err != nil {
		t.Fatal(err)
	}
	return claims, findings
}

// refuses checks that a new verifier refuses evidence with exactly these codes.
func refuses(t testing.TB, ev tee.Evidence, in tee.Input, codes ...tee.Code) *tee.VerifyError {
	t.Helper()
	claims, _, err := snp.New().Verify(ev, in)
	wantCodes(t, claims, err, codes...)
	e, _ := errors.AsType[*tee.VerifyError](err)
	return e
}

// codesOf returns the codes of findings.
func codesOf(findings []tee.Finding) []tee.Code {
	var codes []tee.Code
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	return codes
}
