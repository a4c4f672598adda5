package attest_test

import (
	"crypto/elliptic"
	"encoding/json"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestTokenRoundTrip(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		t.Run(curve.Params().Name, func(t *testing.T) {
			i := newIssuer(t, func(c *attest.IssuerConfig) { c.Key, c.Lifetime = newKey(t, curve), time.Minute })
			bearer := newKey(t, curve)
			v := hardware()
			token, err := i.Issue(v, policyDigest, attest.IssueOptions{Audience: "vault", Nonce: []byte("nonce-1234"), Confirm: &bearer.PublicKey})
			if err != nil {
				t.Fatal(err)
			}
			want := trusting(i)
			want.Audience, want.Nonce, want.Confirm = "vault", []byte("nonce-1234"), &bearer.PublicKey
			got, err := want.Verify(token, at)
			if err != nil {
				t.Fatal(err)
			}
			got.ID = "" // random; see TestTokenIsEAR
			expected := &attest.Result{
				Issuer: i.Name(), KeyID: i.JWKS().IDs()[0], Audience: "vault", IssuedAt: at, Expires: at.Add(time.Minute), Status: attest.StatusAffirming,
				PolicyDigest: policyDigest, TEE: tee.SNP, Claims: v.Claims.Tree(), Findings: v.Findings, Nonce: []byte("nonce-1234"), Confirm: &bearer.PublicKey,
				EvidenceDigest: v.EvidenceDigest, EndorsementsDigest: v.EndorsementsDigest, VerifiedAt: at,
			}
			if d := cmp.Diff(expected, got); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
		})
	}
}

// What others read out of a token: the members of EAR, where EAR has them.
func TestTokenIsEAR(t *testing.T) {
	i := newIssuer(t, nil)
	body := part(t, must[string](t)(i.Issue(hardware(), policyDigest, attest.IssueOptions{})), 1)
	if id, _ := body["jti"].(string); len(id) != 22 {
		t.Errorf("jti %q", id)
	}
	tree, _ := body["cloister.claims"].(map[string]any)["claims"].(map[string]any)
	if tree["tee"] != "sev-snp" || tree["svn"] != 3.0 {
		t.Errorf("claims %v", tree)
	}
	delete(body, "jti")
	delete(body, "cloister.claims")
	want := map[string]any{
		"eat_profile": "tag:github.com,2023:veraison/ear", "iss": "https://issuer.example",
		"iat": 1772366400.0, "nbf": 1772366400.0, "exp": 1772367000.0,
		"ear.verifier-id":    map[string]any{"developer": "https://github.com/cloister-cc/cloister", "build": "cloister"},
		"cloister.simulated": false, "cloister.debug": false,
		"submods": map[string]any{"cpu0": map[string]any{
			"ear.status":                 "affirming",
			"ear.trustworthiness-vector": map[string]any{"instance-identity": 2.0, "hardware": 2.0, "runtime-opaque": 2.0},
			"ear.appraisal-policy-id":    "sha256:706f6c6963790000000000000000000000000000000000000000000000000000",
		}},
	}
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("claims (-want +got):\n%s", d)
	}
}

// Another implementation reads our tokens and keys, and we read its.
func TestTokenInteroperatesWithGoJose(t *testing.T) {
	key := newKey(t, elliptic.P384())
	i := newIssuer(t, func(c *attest.IssuerConfig) { c.Key = key })
	token := must[string](t)(i.Issue(hardware(), policyDigest, attest.IssueOptions{}))
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(must[[]byte](t)(i.JWKS().MarshalJSON()), &set); err != nil {
		t.Fatal(err)
	}
	jws := must[*jose.JSONWebSignature](t)(jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES384}))
	found := set.Key(jws.Signatures[0].Header.KeyID)
	if len(found) != 1 {
		t.Fatalf("%d keys with the token's kid", len(found))
	}
	thumbprint := must[[]byte](t)(found[0].Thumbprint(5)) // crypto.SHA256
	if b64(thumbprint) != found[0].KeyID {
		t.Errorf("kid %s is not the RFC 7638 thumbprint %s", found[0].KeyID, b64(thumbprint))
	}
	body := must[[]byte](t)(jws.Verify(found[0]))

	signer := must[jose.Signer](t)(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: jose.JSONWebKey{Key: key, KeyID: found[0].KeyID}}, (&jose.SignerOptions{}).WithType("JWT")))
	theirs := must[*jose.JSONWebSignature](t)(signer.Sign(body))
	if _, err := trusting(i).Verify(must[string](t)(theirs.CompactSerialize()), at); err != nil {
		t.Errorf("a token signed by go-jose: %v", err)
	}
}

// The status says what the claims are worth, whoever reads only that.
func TestTokenStatus(t *testing.T) {
	cases := []struct {
		name      string
		change    func(*tee.Claims)
		status    attest.Status
		codes     []tee.Code // of a verifier that allows nothing
		exception func(*attest.TokenVerifier)
	}{
		{"up to date", func(*tee.Claims) {}, attest.StatusAffirming, nil, nil},
		{"no reference for the TCB", func(c *tee.Claims) { c.TCB = tee.TCBUnknown }, attest.StatusAffirming, nil, nil},
		{"outdated firmware", func(c *tee.Claims) { c.TCB = tee.TCBOutOfDate }, attest.StatusWarning,
			[]tee.Code{attest.CodeTokenStatus}, func(v *attest.TokenVerifier) { v.AllowWarning = true }},
		{"memory open to the host", func(c *tee.Claims) { c.TEE = tee.TPM }, attest.StatusWarning,
			[]tee.Code{attest.CodeTokenStatus}, func(v *attest.TokenVerifier) { v.AllowWarning = true }},
		{"revoked TCB", func(c *tee.Claims) { c.TCB = tee.TCBRevoked }, attest.StatusContraindicated, []tee.Code{attest.CodeTokenStatus}, nil},
		{"debug", func(c *tee.Claims) { c.Debug = true }, attest.StatusContraindicated,
			[]tee.Code{attest.CodeTokenDebug}, func(v *attest.TokenVerifier) { v.AllowDebug = true }},
		{"simulated", func(c *tee.Claims) { c.TEE, c.Simulated, c.TCB = tee.Software, true, tee.TCBNotApplicable }, attest.StatusContraindicated,
			[]tee.Code{attest.CodeTokenSimulated}, func(v *attest.TokenVerifier) { v.AllowSimulated = true }},
		{"debug does not excuse a revoked TCB", func(c *tee.Claims) { c.Debug, c.TCB = true, tee.TCBRevoked }, attest.StatusContraindicated,
			[]tee.Code{attest.CodeTokenDebug, attest.CodeTokenStatus}, nil},
	}
	i := newIssuer(t, nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := hardware()
			c.change(&v.Claims)
			token := must[string](t)(i.Issue(v, policyDigest, attest.IssueOptions{}))
			device := part(t, token, 1)["submods"].(map[string]any)["cpu0"].(map[string]any)
			if device["ear.status"] != string(c.status) {
				t.Errorf("status %v, want %v", device["ear.status"], c.status)
			}
			verifier := trusting(i)
			_, err := verifier.Verify(token, at)
			if len(c.codes) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCodes(t, err, attest.ErrToken, c.codes...)
			if c.exception == nil {
				verifier.AllowDebug, verifier.AllowSimulated, verifier.AllowWarning = true, true, true
				_, err := verifier.Verify(token, at)
				wantCodes(t, err, attest.ErrToken, attest.CodeTokenStatus)
				return
			}
			c.exception(&verifier)
			if _, err := verifier.Verify(token, at); err != nil {
				t.Errorf("with its exception: %v", err)
			}
		})
	}
}

func TestTokenWithoutPolicySaysNothing(t *testing.T) {
	i := newIssuer(t, nil)
	token := must[string](t)(i.Issue(hardware(), [32]byte{}, attest.IssueOptions{}))
	v := trusting(i)
	v.Policies = [][32]byte{{}}
	v.AllowWarning, v.AllowAnyPolicy = true, true
	_, err := v.Verify(token, at)
	wantCodes(t, err, attest.ErrToken, attest.CodeTokenStatus)
}

func TestIssueRefuses(t *testing.T) {
	unbound := hardware()
	unbound.Findings = append(unbound.Findings, tee.Finding{Code: attest.FindingBindingUnchecked})
	big := hardware()
	big.Claims.Vendor["log"] = string(make([]byte, attest.MaxToken))
	key := newKey(t, elliptic.P224()).PublicKey
	i := newIssuer(t, nil)
	cases := []struct {
		name    string
		issuer  *attest.Issuer
		v       *attest.Verified
		options attest.IssueOptions
	}{
		{"zero issuer", &attest.Issuer{}, hardware(), attest.IssueOptions{}},
		{"no issuer", nil, hardware(), attest.IssueOptions{}},
		{"nothing verified", i, nil, attest.IssueOptions{}},
		{"zero claims", i, &attest.Verified{}, attest.IssueOptions{}},
		{"unbound evidence", i, unbound, attest.IssueOptions{}},
		{"too long", i, big, attest.IssueOptions{}},
		{"short nonce", i, hardware(), attest.IssueOptions{Nonce: make([]byte, 7)}},
		{"empty nonce", i, hardware(), attest.IssueOptions{Nonce: []byte{}}},
		{"long nonce", i, hardware(), attest.IssueOptions{Nonce: make([]byte, 65)}},
		{"curve of cnf", i, hardware(), attest.IssueOptions{Confirm: &key}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if token, err := c.issuer.Issue(c.v, policyDigest, c.options); err == nil || token != "" {
				t.Errorf("got token %q", token)
			}
		})
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	good := attest.IssuerConfig{Name: "i", Key: newKey(t, elliptic.P256()), Now: clock}
	if _, err := attest.NewIssuer(good); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*attest.IssuerConfig){
		"no name":           func(c *attest.IssuerConfig) { c.Name = "" },
		"no key":            func(c *attest.IssuerConfig) { c.Key = nil },
		"no clock":          func(c *attest.IssuerConfig) { c.Now = nil },
		"curve":             func(c *attest.IssuerConfig) { c.Key = newKey(t, elliptic.P521()) },
		"lifetime":          func(c *attest.IssuerConfig) { c.Lifetime = attest.MaxTokenLifetime + time.Second },
		"negative lifetime": func(c *attest.IssuerConfig) { c.Lifetime = -time.Second },
		"part of a second":  func(c *attest.IssuerConfig) { c.Lifetime = time.Second / 2 },
		"previous twice": func(c *attest.IssuerConfig) {
			c.Previous = append(c.Previous, &c.Key.PublicKey)
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if _, err := attest.NewIssuer(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}
