// Package all lists the TEEs that are compiled in. The lists are written out, so
// that what a binary believes can be read in one place; nothing registers
// itself.
//
// It protects against a verifier that slips in unseen. It does not decide which
// of them a relying party accepts: that is the appraisal policy's.
package all

import (
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/cca"
	"github.com/cloister-cc/cloister/tee/gpu"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/tdx"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Verifiers returns a new verifier for each TEE, hardware first. Each is safe
// for concurrent use and remembers certificates, so keep the list.
func Verifiers() []tee.Verifier {
	s, t := snp.New(), tdx.New()
	return []tee.Verifier{s, t, sgx.New(), nitro.New(), azure.NewSNP(s), azure.NewTDX(t), cca.New(), gpu.New(), tpm.New(), software.New()}
}
