package azurepolicy_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

// FuzzPolicy parses any text, and evaluates over any claims what parses.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{
		azurepolicy.DefaultSGX, azurepolicy.DefaultVM, tpmSample, policyText,
		authorize(`a:[type=="x"] && b:[type=="y", value==a.value] && ![value>3] => add(type=a.type, value=AppendString(b.value, "\"")); [value=~"^a|b$"] => deny(); => permit();`),
		issuing(`c:[type=="x"] => issue(claim=c); => issueproperty(type="omit_x5c", value=true, valueType="Boolean");`),
		"version= 1.2; authorizationrules { [type==\"a", "version= 9;", "{", "=> permit();",
	} {
		f.Add(text, "x", bootEvents)
		f.Add(text, "events", "[1,true,null]")
	}
	f.Fuzz(func(t *testing.T, text, typ, value string) {
		p, err := azurepolicy.Parse(text)
		if err != nil {
			e, ok := errors.AsType[*azurepolicy.SyntaxError](err)
			if !ok || len(e.Problems) == 0 || len(e.Problems) > azurepolicy.MaxProblems {
				t.Fatalf("got %v", err)
			}
			for _, problem := range e.Problems {
				if problem.Line < 1 || problem.Column < 1 || problem.Line > strings.Count(text, "\n")+1 {
					t.Fatalf("%v is outside of the text", problem)
				}
				problem.Excerpt(text)
			}
			return
		}
		printed := p.String()
		q, err := azurepolicy.Parse(printed)
		if len(printed) <= azurepolicy.MaxText && (err != nil || q.String() != printed) {
			t.Fatalf("%v\n%s\nbecame\n%s", err, printed, q.String())
		}
		in := append(service(typ, value, typ, true, "x", 3, "n", 4), claims("", typ, value)...)
		out, err := p.Evaluate(in, azurepolicy.Options{})
		if err != nil && !errors.Is(err, azurepolicy.ErrEvaluation) {
			t.Fatalf("got %v", err)
		}
		checkOutcome(t, out, err)
	})
}

// FuzzEnvelope: nobody without the key makes an envelope that is signed.
func FuzzEnvelope(f *testing.F) {
	s := newSigner(f, ecKey(f, elliptic.P256()))
	good := s.sign(f, "ES256", `{"alg":"ES256",`+s.x5c()+`}`, payload(policyText))
	f.Add(good)
	f.Add(b64(`{"alg":"none"}`) + "." + b64(payload(policyText)) + ".")
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Add(b64(`{"alg":"HS256","x5c":["AA=="],"crit":[]}`) + "." + b64(`{"AttestationPolicy":"eA==","a":[1]}`) + ".AA")
	f.Fuzz(func(t *testing.T, jws string) {
		text, signed, err := azurepolicy.ParseEnvelope(jws, []*x509.Certificate{s.cert})
		if err == nil && (!signed || text != policyText || strings.TrimSpace(jws) != good) {
			t.Fatalf("forged: %q", jws)
		}
		text, _, err = azurepolicy.ParseOpenEnvelope(jws)
		if err != nil && (!errors.Is(err, azurepolicy.ErrEnvelope) || text != "") {
			t.Fatalf("got %q, %v", text, err)
		}
	})
}
