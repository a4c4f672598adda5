package azurepolicy

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/cloister-cc/cloister/tee"
)

// DefaultSGX is what Microsoft's service applies to SGX enclaves for which no
// policy was set, after the page "Examples of an Azure SGX Attestation policy":
// it permits any genuine enclave and issues the claims' older names.
const DefaultSGX = `version= 1.1;
configurationrules
{
	=> issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault");
};
authorizationrules
{
	=> permit();
};
issuancerules
{
	c:[type=="x-ms-sgx-is-debuggable"] => issue(type="is-debuggable", value=c.value);
	c:[type=="x-ms-sgx-mrsigner"] => issue(type="sgx-mrsigner", value=c.value);
	c:[type=="x-ms-sgx-mrenclave"] => issue(type="sgx-mrenclave", value=c.value);
	c:[type=="x-ms-sgx-product-id"] => issue(type="product-id", value=c.value);
	c:[type=="x-ms-sgx-svn"] => issue(type="svn", value=c.value);
	c:[type=="x-ms-attestation-type"] => issue(type="tee", value=c.value);
};
`

// DefaultVM permits any genuine VM and issues nothing. The pages do not print
// the default policies of VMs; this is the smallest policy that behaves like the
// sample tokens, which hold the service's own claims only.
const DefaultVM = `version= 1.0;
authorizationrules
{
	=> permit();
};
issuancerules
{
};
`

// Default returns the policy that applies to a kind of TEE when none was set,
// and whether there is one. There is none for plain TPMs (the pages give none,
// and say so for VBS enclaves) and none for what Microsoft's service does not
// know: those need a policy that somebody wrote.
func Default(k tee.Kind) (text string, ok bool) {
	switch k {
	case tee.SGX:
		return DefaultSGX, true
	case tee.SNP, tee.TDX, tee.AzureSNP, tee.AzureTDX:
		return DefaultVM, true
	case tee.Software, tee.Nitro, tee.TPM, tee.ArmCCA, tee.NvidiaGPU:
	}
	return "", false
}

// Hash returns the value of x-ms-policy-hash for a policy's text: base64url of
// SHA-256 over the base64url of the text ("Claim sets").
func Hash(text string) string {
	digest := sha256.Sum256([]byte(base64.RawURLEncoding.EncodeToString([]byte(text))))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// The properties that the pages document.
const (
	PropertyValidAIK      = "require_valid_aik_cert"     // bool; TPM, default true
	PropertyPCRMask       = "required_pcr_mask"          // int; TPM, default 0xFFFFFF
	PropertyTCBIdentifier = "x-ms-sgx-tcbidentifier"     // string; SGX, default "azuredefault"
	PropertyValidity      = "report_validity_in_minutes" // int; default a day, at most a year
	PropertyOmitX5C       = "omit_x5c"                   // bool; default false
)

// KnownProperty reports whether the pages document a property. A caller that
// meets one that it does not act on refuses: it may be the one that restricts.
func KnownProperty(name string) bool { return propertyType(name) != kindNone }

func propertyType(name string) valueKind {
	switch name {
	case PropertyValidAIK, PropertyOmitX5C:
		return kindBool
	case PropertyPCRMask, PropertyValidity:
		return kindInteger
	case PropertyTCBIdentifier:
		return kindText
	}
	return kindNone
}

// Configuration returns the properties that the configuration rules set without
// looking at claims: what a verifier has to know before there are any, such as
// the PCRs that a quote must cover.
func (p *Policy) Configuration() map[string]any {
	out := map[string]any{}
	if p == nil {
		return out
	}
	for _, r := range p.sections[configuration].rules {
		typ, okT := r.act.typ.(literal)
		v, okV := r.act.value.(literal)
		if okT && okV && len(r.conditions) == 0 {
			out[typ.v.s] = v.v.public()
		}
	}
	return out
}
