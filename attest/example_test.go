package attest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
)

// A relying party asks for evidence over its own nonce, verifies it, and has a
// policy decide before anything secret is sent.
func Example() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	fake := attesttest.New(tee.Claims{Debug: true})
	nonce := []byte("a fresh nonce of 32 random bytes")

	want := tee.Bind("example v1", nonce)
	evidence, err := fake.Evidence(context.Background(), want)
	if err != nil {
		panic(err)
	}
	verified, err := attest.NewVerifier(fake).Verify(evidence, fake.Input(now), attest.BindTo(want))
	if err != nil {
		panic(err)
	}

	policy, err := attest.ParsePolicy([]byte(`{
		"version": 1,
		"name": "laptop",
		"accept": ["software"],
		"allow_simulated": true,
		"measurements": ["any"],
		"tcb": ["any"],
		"rules": [{"name": "security version", "expr": "claims.svn >= 2", "code": "old_build"}]
	}`))
	if err != nil {
		panic(err)
	}
	appraiser, err := attest.Compile(policy)
	if err != nil {
		panic(err)
	}
	fmt.Println(attest.Codes(appraiser.Appraise(verified)))

	verified.Claims.Debug, verified.Claims.SVN = false, 2
	fmt.Println(appraiser.Appraise(verified))
	// Output:
	// [debug old_build]
	// <nil>
}
