package refvalues

import (
	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// measured is the output of "cloister instance measure -o json".
type measured struct {
	TEE           tee.Kind `json:"tee"`
	Simulated     bool     `json:"simulated"`
	Measurement   string   `json:"measurement"`
	LaunchDigest  string   `json:"launch_digest"`
	RuntimeDigest string   `json:"runtime_digest"`
	ImageKind     string   `json:"image_kind"`
	ImageDigest   string   `json:"image_digest"`
	Debug         bool     `json:"debug"`
	// PCRs are what the measurement is over, for people.
	PCRs map[string]string `json:"pcrs"`
}

// FromMeasure reads the output of "cloister instance measure -o json": the
// measurement and the launch digest that such a launch will have. It is not
// signed, so it is worth as much as the place that it comes from.
func FromMeasure(b []byte) (Values, error) {
	var m measured
	if len(b) > MaxDocument {
		return Values{}, malformed("%d bytes, at most %d", len(b), MaxDocument)
	}
	if err := attest.DecodeStrict(b, &m); err != nil {
		return Values{}, malformed("%v", err)
	}
	if err := checkDigest(m.Measurement, 32, 48); err != nil {
		return Values{}, malformed("measurement: %v", err)
	}
	e := Entry{TEE: m.TEE, Source: "instance measure"}
	e.equal(claimMeasurement, m.Measurement)
	if m.LaunchDigest != "" {
		if err := checkDigest(m.LaunchDigest, 32); err != nil {
			return Values{}, malformed("launch_digest: %v", err)
		}
		e.equal(claimLaunchDigest, m.LaunchDigest)
	}
	e.equal(claimDebug, m.Debug)
	return Values{Entries: []Entry{e}}.finish()
}
