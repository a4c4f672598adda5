package attest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

func compile(t testing.TB, p attest.Policy) *attest.Appraiser {
	t.Helper()
	return must[*attest.Appraiser](t)(attest.Compile(p))
}

func TestAppraise(t *testing.T) {
	other := strings.Repeat("77", 32)
	type change = func(*attest.Policy, *attest.Verified)
	cases := []struct {
		name   string
		change change
		codes  []tee.Code // empty: accepted
	}{
		{"accepted", func(*attest.Policy, *attest.Verified) {}, nil},
		{"another TEE", func(_ *attest.Policy, v *attest.Verified) { v.Claims.TEE = tee.SGX }, []tee.Code{attest.CodeTEE, "vmpl", attest.CodeRule}},
		{"no TEE", func(_ *attest.Policy, v *attest.Verified) { v.Claims.TEE = "" }, []tee.Code{attest.CodeTEE, "vmpl", attest.CodeRule}},

		{"simulated", func(p *attest.Policy, v *attest.Verified) { p.AllowSimulated, v.Claims.Simulated = false, true }, []tee.Code{attest.CodeSimulated}},
		{"simulated, allowed", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Simulated = true }, nil},
		{"debug", func(p *attest.Policy, v *attest.Verified) { p.AllowDebug, v.Claims.Debug = false, true }, []tee.Code{attest.CodeDebug}},
		{"debug, allowed", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Debug = true }, nil},

		{"another measurement", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Measurement[47] = 1 }, []tee.Code{attest.CodeMeasurement}},
		{"a prefix of the measurement", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Measurement = v.Claims.Measurement[:32] }, []tee.Code{attest.CodeMeasurement}},
		{"no measurement", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Measurement = nil }, []tee.Code{attest.CodeMeasurement}},
		{"any measurement", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, v.Claims.Measurement = []string{attest.Any}, []byte{1}
		}, nil},
		{"any measurement wants one", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, v.Claims.Measurement = []string{attest.Any}, nil
		}, []tee.Code{attest.CodeMeasurement}},
		{"measurement in capitals", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, v.Claims.Measurement = []string{strings.Repeat("AB", 32)}, []byte(strings.Repeat("\xab", 32))
		}, nil},

		{"another launch digest", func(_ *attest.Policy, v *attest.Verified) { v.Claims.LaunchDigest[0] = 1 }, []tee.Code{attest.CodeLaunchDigest}},
		{"no launch digest", func(_ *attest.Policy, v *attest.Verified) { v.Claims.LaunchDigest = nil }, []tee.Code{attest.CodeLaunchDigest}},
		{"launch digest not asked for", func(p *attest.Policy, v *attest.Verified) { p.LaunchDigests, v.Claims.LaunchDigest = nil, nil }, nil},

		{"launch by the guest's own word", func(_ *attest.Policy, v *attest.Verified) { v.Claims.LaunchByGuest = true }, nil},
		{"launch by any guest's own word", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, p.Signers, v.Claims.LaunchByGuest = []string{attest.Any}, nil, true
		}, []tee.Code{attest.CodeMeasurement}},
		{"signer by any guest's own word", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, p.LaunchDigests, v.Claims.LaunchByGuest = nil, nil, true
		}, []tee.Code{attest.CodeMeasurement}},
		{"any guest, and nothing that it says", func(p *attest.Policy, v *attest.Verified) {
			p.Measurements, p.LaunchDigests, p.Signers, v.Claims.LaunchByGuest = []string{attest.Any}, nil, nil, true
		}, nil},

		{"unsigned", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Signer = nil }, []tee.Code{attest.CodeSigner}},
		{"another signer", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Signer[0] = 1 }, []tee.Code{attest.CodeSigner}},
		{"another product", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Product = 1 }, []tee.Code{attest.CodeSigner}},
		{"older version", func(_ *attest.Policy, v *attest.Verified) { v.Claims.SVN = 2 }, []tee.Code{attest.CodeSVN}},
		{"newer version", func(_ *attest.Policy, v *attest.Verified) { v.Claims.SVN = 1 << 31 }, nil},
		{"lowest of two rules", func(p *attest.Policy, v *attest.Verified) {
			p.Signers = append(p.Signers, attest.SignerRule{Signer: p.Signers[0].Signer, Product: 7, MinSVN: 1})
			v.Claims.SVN = 2
		}, nil},
		{"version of another product", func(p *attest.Policy, v *attest.Verified) {
			p.Signers = append(p.Signers, attest.SignerRule{Signer: p.Signers[0].Signer, Product: 8, MinSVN: 1})
			v.Claims.SVN = 2
		}, []tee.Code{attest.CodeSVN}},
		{"signer instead of measurement", func(p *attest.Policy, v *attest.Verified) { p.Measurements, v.Claims.Measurement = nil, []byte{1} }, nil},
		{"signer beside measurement: both", func(p *attest.Policy, v *attest.Verified) { v.Claims.Measurement[0], v.Claims.SVN = 1, 0 },
			[]tee.Code{attest.CodeMeasurement, attest.CodeSVN}},

		{"TCB not named", func(_ *attest.Policy, v *attest.Verified) { v.Claims.TCB = tee.TCBUnknown }, []tee.Code{attest.CodeTCB}},
		{"no TCB", func(_ *attest.Policy, v *attest.Verified) { v.Claims.TCB = "" }, []tee.Code{attest.CodeTCB}},
		{"any TCB", func(p *attest.Policy, v *attest.Verified) { p.TCB, v.Claims.TCB = []string{attest.Any}, tee.TCBUnknown }, nil},
		{"any TCB wants one", func(p *attest.Policy, v *attest.Verified) { p.TCB, v.Claims.TCB = []string{attest.Any}, "" }, []tee.Code{attest.CodeTCB}},
		{"any TCB is not Revoked", func(p *attest.Policy, v *attest.Verified) { p.TCB, v.Claims.TCB = []string{attest.Any}, tee.TCBRevoked }, []tee.Code{attest.CodeTCB}},
		{"Revoked by name", func(p *attest.Policy, v *attest.Verified) { p.TCB, v.Claims.TCB = []string{"Revoked"}, tee.TCBRevoked }, nil},

		{"another platform", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Platform = "abab" }, []tee.Code{attest.CodePlatform}},
		{"no platform", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Platform = "" }, []tee.Code{attest.CodePlatform}},
		{"platform that is not hex", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Platform = "ab-" }, []tee.Code{attest.CodePlatform}},
		{"platform in capitals", func(_ *attest.Policy, v *attest.Verified) { v.Claims.Platform = "FFEE" }, nil},
		{"platform not asked for", func(p *attest.Policy, v *attest.Verified) { p.Platforms, v.Claims.Platform = nil, "" }, nil},

		{"refused finding", func(_ *attest.Policy, v *attest.Verified) { v.Findings[0].Code = attest.FindingBindingUnchecked }, []tee.Code{attest.CodeFinding}},
		{"collateral missing", func(p *attest.Policy, v *attest.Verified) {
			p.RefuseFindings, v.Findings[0].Code = nil, tee.CodeCollateralMissing
		}, []tee.Code{attest.CodeFinding}},
		{"collateral missing, allowed", func(p *attest.Policy, v *attest.Verified) {
			p.RefuseFindings, p.AllowMissingCollateral, v.Findings[0].Code = nil, true, tee.CodeCollateralMissing
		}, nil},
		{"collateral missing, allowed and refused", func(p *attest.Policy, v *attest.Verified) {
			p.AllowMissingCollateral, v.Findings[0].Code = true, tee.CodeCollateralMissing
		}, []tee.Code{attest.CodeFinding}},
		{"collateral late", func(_ *attest.Policy, v *attest.Verified) { v.Findings[0].Code = tee.CodeCollateralExpired }, []tee.Code{attest.CodeFinding}},
		{"collateral late within the grace", func(p *attest.Policy, v *attest.Verified) {
			p.CollateralGraceDays, v.Findings[0].Code = 1, tee.CodeCollateralExpired
		}, nil},
		{"any finding", func(p *attest.Policy, _ *attest.Verified) { p.RefuseFindings = []string{attest.Any} }, []tee.Code{attest.CodeFinding}},
		{"any finding, and none there", func(p *attest.Policy, v *attest.Verified) { p.RefuseFindings, v.Findings = []string{attest.Any}, nil }, nil},

		{"everything at once", func(p *attest.Policy, v *attest.Verified) {
			p.AllowDebug, p.AllowSimulated, p.LaunchDigests = false, false, []string{other}
			v.Claims = tee.Claims{TEE: tee.Nitro, Debug: true, Simulated: true}
			v.Findings[0].Code = attest.FindingBindingUnchecked
		}, []tee.Code{
			attest.CodeTEE, attest.CodeSimulated, attest.CodeDebug, attest.CodeMeasurement, attest.CodeLaunchDigest, attest.CodeSigner,
			attest.CodeTCB, attest.CodePlatform, attest.CodeFinding, attest.CodeRule, "vmpl",
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, v := fullPolicy(), hardware()
			c.change(&p, v)
			err := compile(t, p).Appraise(v)
			if len(c.codes) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCodes(t, err, attest.ErrRefused, c.codes...)
			e, _ := errors.AsType[*attest.AppraisalError](err)
			if e.Policy != "production" {
				t.Errorf("policy %q", e.Policy)
			}
			for _, f := range e.Failures {
				if f.Claim == "" || f.Want == "" || f.Got == "" || !strings.Contains(err.Error(), f.String()) {
					t.Errorf("a failure that explains little: %+v", f)
				}
			}
		})
	}
}

func TestAppraiseFailsClosed(t *testing.T) {
	var none *attest.Appraiser
	for name, a := range map[string]*attest.Appraiser{"nil": none, "zero": {}} {
		wantCodes(t, a.Appraise(hardware()), attest.ErrRefused, attest.CodePolicyEmpty)
		if a.Digest() != ([32]byte{}) && name == "nil" {
			t.Error("a digest without a policy")
		}
		if a.Policy().Version != 0 {
			t.Error("a policy out of nothing")
		}
	}
	wide := attest.Development()
	wide.AllowDebug = true
	for name, v := range map[string]*attest.Verified{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			wantCodes(t, compile(t, wide).Appraise(v), attest.ErrRefused, attest.CodeTEE, attest.CodeMeasurement, attest.CodeTCB)
		})
	}
	if _, err := attest.Compile(attest.Policy{}); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("the zero policy compiles: %v", err)
	}
	wantCodes(t, compile(t, attest.HardwareDefault()).Appraise(simulated(t)), attest.ErrRefused, attest.CodeTEE, attest.CodeSimulated)
	if err := compile(t, attest.Development()).Appraise(simulated(t)); err != nil {
		t.Errorf("development refuses the fake TEE: %v", err)
	}
}

// What a caller does to a policy after compiling it, or to what Policy returns,
// changes nothing.
func TestAppraiserIsImmutable(t *testing.T) {
	p := fullPolicy()
	a := compile(t, p)
	digest := a.Digest()
	spoil := func(p attest.Policy) {
		p.Accept[0], p.TCB[0], p.Measurements[0], p.Signers[0].MinSVN, p.Rules[0].Expr = tee.Software, "Revoked", "00", 99, "false"
		p.RefuseFindings[0] = "trailing_bytes"
	}
	got := a.Policy()
	spoil(p)
	spoil(got)
	if err := a.Appraise(hardware()); err != nil || a.Digest() != digest || a.Policy().Digest() != digest {
		t.Errorf("changed from outside: %v", err)
	}
}

func TestRules(t *testing.T) {
	nested := "claims.product"
	for range 70 {
		nested = "(" + nested + ")"
	}
	hundred := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	cases := []struct {
		name, expr string
		want       string // part of Got; "" accepts, "!" does not compile
	}{
		{"true", "true", ""},
		{"false", "false", "false"},
		{"text", `claims.tee == "sev-snp" && claims.platform.startsWith("a")`, ""},
		{"unsigned claim, signed number", "claims.svn >= 3 && claims.svn < 4", ""},
		{"unsigned claim, unsigned number", "claims.svn == 3u", ""},
		{"signed claim", "claims.sev_snp.family < 0 && claims.sev_snp.family < 0u", ""},
		{"signed against unsigned claim", "claims.sev_snp.family < claims.svn", ""},
		{"number with a fraction", "claims.svn > 2.5", ""},
		{"list claim", `"ark" in claims.sev_snp.chain`, ""},
		{"finding", `"trailing_bytes" in findings`, ""},
		{"no such finding", `"expired" in findings`, "false"},
		{"optional claim", "!has(claims.sev_snp.rapl) || claims.sev_snp.rapl", ""},
		{"no such claim", "claims.sev_snp.rapl", "no such key"},
		{"no such TEE", "claims.tdx.debug == false", "no such key"},
		{"no such claim beside true", "claims.debug == false || claims.nothing", ""},
		{"not a bool", "claims.product", "not a bool"},
		{"text that says true", `claims.tee == "" ? true : "true"`, "!"},
		{"null", "claims.nothing == null", "no such key"},
		{"another type", `claims.svn == "3"`, "false"},
		{"division by zero", "uint(claims.product) / uint(claims.product - claims.product) > 0u", "error"},
		{"overflow", "9223372036854775807 + int(claims.product) > 0", "overflow"},
		{"too costly", hundred + ".all(a, " + hundred + ".all(b, " + hundred + ".all(c, a + b + c == 3)))", "cost"},
		{"static type", "1 + 2", "!"},
		{"unknown variable", "evidence.debug", "!"},
		{"unknown function", "now() > 0", "!"},
		{"syntax", "claims.debug ==", "!"},
		{"nested too deep", nested + " == 7", "!"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := fullPolicy()
			p.Rules = []attest.Rule{{Name: "rule", Expr: c.expr, Hint: "a hint"}}
			a, err := attest.Compile(p)
			if c.want == "!" {
				if !errors.Is(err, attest.ErrPolicy) || !strings.Contains(err.Error(), `rules[0] "rule": `) {
					t.Errorf("got %v, want ErrPolicy with the rule's name", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			err = a.Appraise(hardware())
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCodes(t, err, attest.ErrRefused, attest.CodeRule)
			f := attest.Failures(err)[0]
			if !strings.Contains(f.Got, c.want) || f.Claim != "rule rule" || f.Want != c.expr || f.Hint != "a hint" {
				t.Errorf("failure %+v, want %q in got", f, c.want)
			}
		})
	}
}

func TestRuleErrorsHavePositions(t *testing.T) {
	p := fullPolicy()
	p.Rules[1].Expr = "true &&\n  wrong"
	_, err := attest.Compile(p)
	if err == nil || !strings.Contains(err.Error(), `rules[1] "smt": 2:3: `) {
		t.Errorf("got %v, want line 2, column 3", err)
	}
}

func TestRulesKeepTheirOrderAndCodes(t *testing.T) {
	p := fullPolicy()
	p.Rules = []attest.Rule{{Name: "z", Expr: "false", Code: "z_code"}, {Name: "a", Expr: "false"}, {Name: "m", Expr: "false", Code: "m_code"}}
	var got []string
	for _, f := range attest.Failures(compile(t, p).Appraise(hardware())) {
		got = append(got, string(f.Code))
	}
	if want := []string{"z_code", "rule", "m_code"}; !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
}

func TestFailures(t *testing.T) {
	f := []tee.Failure{{Code: "b"}, {Code: "a"}, {Code: "b"}}
	for _, err := range []error{&attest.AppraisalError{Failures: f}, &tee.VerifyError{Failures: f}, &attest.TokenError{Failures: f}} {
		wrapped := fmt.Errorf("context: %w", err)
		if got := attest.Codes(wrapped); !slices.Equal(got, []tee.Code{"a", "b"}) || len(attest.Failures(wrapped)) != 3 {
			t.Errorf("%T: codes %v", err, got)
		}
	}
	if attest.Failures(errors.New("another")) != nil || attest.Codes(nil) != nil {
		t.Error("failures out of nothing")
	}
}

// Long lists do not drown the reader.
func TestFailuresStayShort(t *testing.T) {
	p := fullPolicy()
	p.Platforms = nil
	for i := range 1000 {
		p.Platforms = append(p.Platforms, fmt.Sprintf("%064x", i))
	}
	f := attest.Failures(compile(t, p).Appraise(hardware()))
	if len(f) != 1 || len(f[0].Want) > 400 || !strings.Contains(f[0].Want, "1000 values") {
		t.Errorf("failures %+v", f)
	}
}
