package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
)

// A verifier service appraises evidence once and states the outcome as a token
// (the passport flow of RFC 9334); a relying party checks the token alone.
func ExampleIssuer() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	appraiser, err := attest.Compile(attest.Development())
	if err != nil {
		panic(err)
	}
	verified, err := attesttest.New(tee.Claims{SVN: 4}).Verified([64]byte{1}, now)
	if err != nil {
		panic(err)
	}
	if err := appraiser.Appraise(verified); err != nil {
		panic(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	issuer, err := attest.NewIssuer(attest.IssuerConfig{Name: "https://attest.example", Key: key, Now: func() time.Time { return now }})
	if err != nil {
		panic(err)
	}
	token, err := issuer.Issue(verified, appraiser.Digest(), attest.IssueOptions{Audience: "billing"})
	if err != nil {
		panic(err)
	}

	relyingParty := attest.TokenVerifier{
		Keys: issuer.JWKS(), Issuer: "https://attest.example", Audience: "billing", Policies: [][32]byte{appraiser.Digest()},
	}
	_, err = relyingParty.Verify(token, now.Add(time.Minute))
	fmt.Println(err)

	relyingParty.AllowSimulated = true // this is a test
	result, err := relyingParty.Verify(token, now.Add(time.Minute))
	fmt.Println(result.TEE, result.Simulated, result.Status, result.Claims["svn"], err)
	// Output:
	// attestation result refused: token_simulated: cloister.simulated: want false, got true
	// software true contraindicated 4 <nil>
}
