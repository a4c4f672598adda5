package tee

import "fmt"

// Kind names a TEE. The zero value names none and is accepted nowhere.
type Kind string

// The TEE kinds. The strings are stable: they appear in policies, evidence
// envelopes, JSON output and the portal.
const (
	Software Kind = "software" // development only; always simulated
	SNP      Kind = "sev-snp"  // AMD SEV-SNP
	TDX      Kind = "tdx"      // Intel TDX
	SGX      Kind = "sgx"      // Intel SGX
	Nitro    Kind = "nitro"    // AWS Nitro Enclaves
	TPM      Kind = "tpm-vm"   // a VM with a (v)TPM and measured boot
	// An Azure confidential VM: its paravisor keeps a vTPM whose key the
	// hardware's report vouches for, and the vTPM's quote is what speaks.
	AzureSNP Kind = "azure-snp-vtpm"
	AzureTDX Kind = "azure-tdx-vtpm"
	// ArmCCA is a realm; whose platforms to believe, the relying party enrols.
	ArmCCA Kind = "arm-cca"
	// NvidiaGPU is a device of a TEE and none of its own: its evidence verifies, and
	// no policy can accept it.
	NvidiaGPU Kind = "nvidia-gpu"
)

// Kinds returns every kind that policies can name, in the order in which tables show
// them.
func Kinds() []Kind { return []Kind{SNP, TDX, SGX, Nitro, AzureSNP, AzureTDX, ArmCCA, TPM, Software} }

// ParseKind returns the kind that s spells, or an error that lists the known
// ones.
func ParseKind(s string) (Kind, error) {
	for _, k := range Kinds() {
		if s == string(k) {
			return k, nil
		}
	}
	return "", fmt.Errorf("unknown TEE %q: want one of %v", s, Kinds())
}
