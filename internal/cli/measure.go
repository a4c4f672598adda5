package cli

import (
	"encoding/hex"
	"fmt"

	csoftware "github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
)

// measured is the output of `instance measure`.
type measured struct {
	TEE           tee.Kind        `json:"tee"`
	Simulated     bool            `json:"simulated"`
	Measurement   tee.Measurement `json:"measurement"`
	LaunchDigest  string          `json:"launch_digest"`
	RuntimeDigest string          `json:"runtime_digest"`
	ImageKind     string          `json:"image_kind"`
	ImageDigest   string          `json:"image_digest"`
	Debug         bool            `json:"debug"`
}

func measure(p prepared) (measured, error) {
	if p.spec.TEE != tee.Software {
		return measured{}, usageError(fmt.Sprintf("this build measures no %s launches", p.spec.TEE), "use --tee software")
	}
	runtime, err := software.RuntimeDigest()
	if err != nil {
		return measured{}, err
	}
	digest, err := p.spec.Launch.Digest()
	if err != nil {
		return measured{}, err
	}
	m, err := csoftware.New("").Expect(p.spec.Launch)
	if err != nil {
		return measured{}, err
	}
	return measured{
		TEE: p.spec.TEE, Simulated: true, Measurement: m, LaunchDigest: hex.EncodeToString(digest[:]), RuntimeDigest: hex.EncodeToString(runtime[:]),
		ImageKind: string(p.spec.Launch.Image.Kind), ImageDigest: hex.EncodeToString(p.spec.Launch.Image.Digest), Debug: p.spec.Launch.Debug,
	}, nil
}
