package rcar_test

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/rcar"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// A service that verifies guests of SEV-SNP. A guest asks for a nonce first; one
// that has nothing but sample evidence is told so.
func ExampleNew() {
	verifier := attest.NewVerifier(snp.New())
	policy, err := attest.Compile(attest.HardwareDefault())
	if err != nil {
		panic(err)
	}
	var issuer *attest.Issuer // a real one has a key
	handler, err := rcar.New(rcar.Config{
		Verify: func(_ context.Context, ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
			return verifier.Verify(ev, tee.Input{At: time.Now()}, rcar.Binding(ev.Kind, reportData))
		},
		Issue: func(_ context.Context, v *attest.Verified, confirm *ecdsa.PublicKey, nonce []byte) (string, error) {
			if err := policy.Appraise(v); err != nil {
				return "", err
			}
			return issuer.Issue(v, policy.Digest(), attest.IssueOptions{Confirm: confirm, Nonce: nonce})
		},
		Now: time.Now,
	})
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"snp", "sample"} {
		body := strings.NewReader(`{"version":"0.4.0","tee":"` + name + `","extra-params":""}`)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodPost, rcar.PathAuth, body))
		fmt.Println(name, w.Code, len(w.Result().Cookies()))
	}
	// Output:
	// snp 200 1
	// sample 401 0
}
