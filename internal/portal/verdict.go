package portal

import (
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
)

// verdict is what this host makes of evidence. It is nobody else's verdict.
type verdict struct {
	At       time.Time
	Verified bool
	// NoRoot says that this host has no root to verify it with, so that a refusal
	// says nothing about the instance.
	NoRoot bool
	// Failures say why it does not verify.
	Failures []tee.Failure
	Findings []tee.Finding
	// AsExpected says whether it carries the measurement that was computed before
	// the instance started.
	AsExpected bool
	Expected   string
	Got        string
	Opinions   []opinion

	verified *attest.Verified
}

// opinion is the word of one policy.
type opinion struct {
	Policy   string
	Means    string
	Accepted bool
	Failures []tee.Failure
	Terms    term.Node
}

// judge verifies evidence, and appraises it under the policies that are built in.
// Without report data to compare with, a finding says so.
func (p *Portal) judge(i compute.Instance, ev tee.Evidence, in tee.Input, reportData *[64]byte) verdict {
	v := verdict{At: in.At, Expected: i.Expected.String(), NoRoot: ev.Kind == tee.TPM && len(in.Roots) == 0}
	binding := attest.WithoutFreshness()
	if reportData != nil {
		binding = attest.BindTo(*reportData)
	}
	verified, err := p.cfg.Verifier.Verify(ev, in, binding)
	if err != nil {
		v.Failures = attest.Failures(err)
		return v
	}
	v.Verified, v.verified, v.Findings = true, verified, verified.Findings
	v.AsExpected, v.Got = i.Expected.Equal(verified.Claims.Measurement), verified.Claims.Measurement.String()
	for _, a := range p.judges {
		policy := a.Policy()
		err := a.Appraise(verified)
		v.Opinions = append(v.Opinions, opinion{
			Policy: policy.Name, Means: meaning(policy.Name), Accepted: err == nil, Failures: attest.Failures(err), Terms: a.Explain(verified),
		})
	}
	return v
}

// meaning says what a built-in policy is for.
func meaning(policy string) string {
	switch policy {
	case attest.Development().Name:
		return "any code, on a hardware TEE or a simulated one, without debug: for laptops and tests"
	case attest.HardwareDefault().Name:
		return "any code, on a genuine hardware TEE, without debug: the default of cloister attest verify"
	default:
		return ""
	}
}

// commands are what an owner types to verify without believing this page.
type commands struct {
	Evidence string
	Measure  string
	Root     string // where the root is one that the node has
	Verify   string
	Policy   string
}

// ownCommands are made of what the host says, so an owner replaces what is theirs
// to know: the image, and the root certificate that they trust.
func (p *Portal) ownCommands(i compute.Instance) commands {
	file := quote(i.Name + ".json")
	c := commands{
		Evidence: "cloister attest evidence " + quote(i.Name) + " > " + file,
		Verify:   "cloister attest verify --evidence " + file + " --policy policy.yaml --report-data \"$(jq -r .report_data " + file + ")\"",
		Policy:   ownPolicy(i),
	}
	switch i.Spec.TEE {
	case tee.Software:
		c.Verify += " --roots " + quote(p.cfg.Host.Platform().RootFile)
	case tee.TPM:
		c.Root = "cloister attest tpm-ca > tpm-ca.pem"
		c.Verify += " --roots tpm-ca.pem"
	default: // the roots of vendors are built in
	}
	if i.Name == compute.NodeName {
		c.Measure = "cloister version"
	} else {
		c.Measure = measureCommand(i)
	}
	return c
}

// ownPolicy accepts exactly this launch, where an owner puts in what they computed.
func ownPolicy(i compute.Instance) string {
	text := "version: 1\nname: exactly this launch\naccept: [" + string(i.Spec.TEE) + "]\n"
	if i.Simulated {
		text += "allow_simulated: true      # development only\n"
	}
	if i.Spec.Launch.Debug {
		text += "allow_debug: true          # its host can read it\n"
	}
	text += "measurements:\n  - \"MEASUREMENT\"          # of your own instance measure\n"
	if i.Spec.TEE == tee.TPM {
		text += "launch_digests:\n  - \"LAUNCH DIGEST\"        # the same\n"
	}
	return text + "tcb: [any]\n"
}
