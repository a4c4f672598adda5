package azurepolicy_test

import (
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

func parse(t testing.TB, text string) *azurepolicy.Policy {
	t.Helper()
	p, err := azurepolicy.Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// service makes claims of the attestation service from name, value, name, …
func service(pairs ...any) []azurepolicy.Claim {
	return claims(azurepolicy.IssuerService, pairs...)
}

func claims(issuer string, pairs ...any) []azurepolicy.Claim {
	var out []azurepolicy.Claim
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		out = append(out, azurepolicy.Claim{Type: name, Value: pairs[i+1], Issuer: issuer})
	}
	return out
}

// authorize makes a policy of authorization rules, version 1.2.
func authorize(rules string) string {
	return "version= 1.2;\nauthorizationrules\n{\n" + rules + "\n};\n"
}

// issuing makes a policy that permits and issues, version 1.2.
func issuing(rules string) string {
	return "version= 1.2;\nauthorizationrules { => permit(); };\nissuancerules\n{\n" + rules + "\n};\n"
}
