package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is the time at which everything in these tests happens.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return at }

// policyDigest stands for some policy that said yes.
var policyDigest = [32]byte{'p', 'o', 'l', 'i', 'c', 'y'}

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// hardware returns what verification of a genuine SEV-SNP instance would give:
// the fake TEE is always simulated, and most rules are about those that are not.
func hardware() *attest.Verified {
	return &attest.Verified{
		Claims: tee.Claims{
			TEE: tee.SNP, Measurement: make([]byte, 48), LaunchDigest: make([]byte, 32), Signer: make([]byte, 32), Product: 7, SVN: 3,
			ReportData: make([]byte, 64), InstanceID: "vm-1", Platform: "ab", TCB: tee.TCBUpToDate,
			Vendor: map[string]any{"vmpl": uint64(2), "family": int64(-1), "smt": true, "chain": []any{"ark", "ask"}},
		},
		EvidenceDigest: [32]byte{1}, EndorsementsDigest: [32]byte{2}, At: at,
		Findings: []tee.Finding{{Code: "trailing_bytes", Detail: "70 bytes behind the quote"}},
	}
}

func simulated(t testing.TB) *attest.Verified {
	t.Helper()
	return must[*attest.Verified](t)(attesttest.New(tee.Claims{}).Verified([64]byte{1}, at))
}

func newIssuer(t testing.TB, change func(*attest.IssuerConfig)) *attest.Issuer {
	t.Helper()
	cfg := attest.IssuerConfig{Name: "https://issuer.example", Now: clock}
	if change != nil {
		change(&cfg)
	}
	if cfg.Key == nil {
		cfg.Key = newKey(t, elliptic.P256())
	}
	return must[*attest.Issuer](t)(attest.NewIssuer(cfg))
}

// trusting returns a verifier that accepts what i issues without options.
func trusting(i *attest.Issuer) attest.TokenVerifier {
	return attest.TokenVerifier{Keys: i.JWKS(), Issuer: i.Name(), AllowNoAudience: true, Policies: [][32]byte{policyDigest}}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// forge signs any header and body, correctly, as a broken or hostile issuer can.
func forge(t testing.TB, key *ecdsa.PrivateKey, header, body any) string {
	t.Helper()
	encode := func(v any) string {
		if s, ok := v.(string); ok {
			return b64([]byte(s))
		}
		return b64(must[[]byte](t)(json.Marshal(v)))
	}
	input := encode(header) + "." + encode(body)
	size, digest := 32, sha256.New()
	if key.Curve == elliptic.P384() {
		size, digest = 48, sha512.New384()
	}
	digest.Write([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...))
}

// part decodes the header (0) or body (1) of a token.
func part(t testing.TB, token string, n int) map[string]any {
	t.Helper()
	var m map[string]any
	b := must[[]byte](t)(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n]))
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// wantCodes checks the distinct codes of a refusal, in any order.
func wantCodes(t testing.TB, err error, sentinel error, want ...tee.Code) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("got %v, want %v", err, sentinel)
	}
	got := attest.Codes(err)
	if d := cmp.Diff(fmt.Sprint(sorted(want)), fmt.Sprint(got)); d != "" {
		t.Fatalf("codes (-want +got):\n%s%v", d, err)
	}
}

func sorted(codes []tee.Code) []tee.Code {
	e := &tee.VerifyError{}
	for _, c := range codes {
		e.Failures = append(e.Failures, tee.Failure{Code: c})
	}
	return attest.Codes(e)
}

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	return must[[]byte](t)(json.Marshal(v))
}

// fullPolicy uses every field and accepts [hardware].
func fullPolicy() attest.Policy {
	zero32, zero48 := strings.Repeat("00", 32), strings.Repeat("00", 48)
	return attest.Policy{
		Version: 1, Name: "production", Accept: []tee.Kind{tee.SNP, tee.TDX}, AllowSimulated: true, AllowDebug: true,
		Measurements: []string{zero48, strings.Repeat("ab", 32)}, LaunchDigests: []string{zero32, strings.Repeat("cd", 32)},
		Signers: []attest.SignerRule{{Signer: zero32, Product: 7, MinSVN: 3}, {Signer: strings.Repeat("ef", 32), Product: 1, MinSVN: 1}},
		TCB:     []string{"UpToDate", "OutOfDate"}, Platforms: []string{"ab", "ffee"}, RefuseFindings: []string{"collateral_missing", "binding_unchecked"},
		Rules: []attest.Rule{
			{Name: "vmpl", Expr: "claims.sev_snp.vmpl <= 2", Code: "vmpl", Hint: "use the paravisor"},
			{Name: "smt", Expr: "claims.sev_snp.smt"},
		},
	}
}

func canceled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
