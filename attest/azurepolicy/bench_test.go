package azurepolicy_test

import (
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

const tenTerms = `version= 1.0;
authorizationrules
{
	[type=="x-ms-attestation-type", value=="sevsnpvm"] && [type=="x-ms-sevsnpvm-is-debuggable", value==false]
	&& [type=="x-ms-sevsnpvm-launchmeasurement", value=="04a1"] && [type=="x-ms-sevsnpvm-vmpl", value<=2]
	&& [type=="x-ms-sevsnpvm-guestsvn", value>=1] && [type=="x-ms-sevsnpvm-migration-allowed", value==false]
	&& [type=="x-ms-sevsnpvm-bootloader-svn", value>=3] && [type=="x-ms-sevsnpvm-snpfw-svn", value>=8]
	&& [type=="x-ms-sevsnpvm-microcode-svn", value>=115] && [type=="x-ms-sevsnpvm-hostdata", value=="00ff", issuer=="AttestationService"]
	=> permit();
};
issuancerules
{
	c:[type=="x-ms-sevsnpvm-hostdata"] => issue(type="hostdata", value=c.value);
};
`

// A policy of ten terms over all claims of SEV-SNP.
func BenchmarkEvaluate(b *testing.B) {
	p := parse(b, tenTerms)
	in := azurepolicy.IncomingClaims(snpTree())
	b.ReportAllocs()
	for b.Loop() {
		if out, err := p.Evaluate(in, azurepolicy.Options{}); err != nil || !out.Permitted {
			b.Fatal(err, out.Trace)
		}
	}
}

// The same with a refusal, which is explained.
func BenchmarkEvaluateRefused(b *testing.B) {
	p := parse(b, tenTerms)
	in := append(azurepolicy.IncomingClaims(snpTree()), service("other", 1)...)
	for i := range in {
		if in[i].Type == "x-ms-sevsnpvm-hostdata" {
			in[i].Value = "11ff"
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if out, err := p.Evaluate(in, azurepolicy.Options{}); err != nil || out.Permitted {
			b.Fatal(err, out.Trace)
		}
	}
}

func BenchmarkIncomingClaims(b *testing.B) {
	tree := snpTree()
	b.ReportAllocs()
	for b.Loop() {
		azurepolicy.IncomingClaims(tree)
	}
}

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(tenTerms)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := azurepolicy.Parse(tenTerms); err != nil {
			b.Fatal(err)
		}
	}
}

// Sixteen queries over a small boot log.
func BenchmarkEvaluateJmesPath(b *testing.B) {
	p := parse(b, tpmSample)
	in := service("events", bootEvents)
	b.ReportAllocs()
	for b.Loop() {
		if out, err := p.Evaluate(in, azurepolicy.Options{}); err != nil || !out.Permitted {
			b.Fatal(err, out.Trace)
		}
	}
}
