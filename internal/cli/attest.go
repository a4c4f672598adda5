package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

func (a *app) attestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "attest", Short: "Get and verify evidence", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.attestVerify(), a.attestEvidence(), a.attestPolicy(), a.attestCollateral(), a.attestReplay(), a.attestImpact(), a.attestToken(), a.attestProvider(), a.attestTPMCA())
	return cmd
}

// verdict is the stable output of `attest verify`.
type verdict struct {
	Verified  bool           `json:"verified"` // signatures, chains, bindings
	TEE       tee.Kind       `json:"tee"`
	Debug     bool           `json:"debug"`
	Simulated bool           `json:"simulated"`
	TCBStatus tee.TCBStatus  `json:"tcb_status"`
	Findings  []tee.Finding  `json:"findings"`
	Accepted  bool           `json:"accepted"` // verified, and the policy said yes
	Policy    string         `json:"policy"`   // name, or "none"
	Failures  []tee.Failure  `json:"failures"`
	At        time.Time      `json:"at"`
	Claims    map[string]any `json:"claims"`
	Record    string         `json:"record,omitempty"` // its name, when it was recorded
}

// verifyFlags are the flags of `attest verify`.
type verifyFlags struct {
	evidence, roots, kind, at, policy, reportData string
	endorsements                                  []string
	noPolicy                                      bool
	cached                                        bool
	cache, record, eventLog, expected             string
}

func (a *app) attestVerify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify --evidence FILE", Short: "Verify evidence offline and appraise it",
		Long: "Verify checks signatures, certificate chains and bindings of evidence at a given time,\n" +
			"then appraises the claims: with --policy, or with the built-in policy \"hardware-default\"\n" +
			"(a genuine hardware TEE, any code, no debug). It makes no network connection.\n\n" +
			"The exit status is 0 if the evidence is accepted and 3 if it is refused.",
		Example: "  cloister attest verify --evidence report.bin --endorsements vcek.der\n" +
			"  cloister attest verify --evidence vm.json --endorsements tpm-ak.pem --policy vm.yaml --expected measured.json\n" +
			"  cloister attest verify --evidence report.bin --endorsements certs/ --at 2026-01-01T00:00:00Z -o json",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.verify(f) },
	}
	f.register(cmd.Flags())
	fl := cmd.Flags()
	fl.StringVar(&f.record, "record", "", "keep the verdict and all that it depends on in this directory (see cloister attest replay)")
	fl.StringVar(&f.policy, "policy", "", "appraisal policy (YAML or JSON)")
	fl.StringVar(&f.expected, "expected", "", "what the policy accepts: the output of instance measure -o json; a refusal names the registers that differ")
	fl.BoolVar(&f.noPolicy, "no-policy", false, "verify only; whatever verifies is accepted, debug and simulated too")
	return cmd
}

// register adds the flags that say what is verified, and with what.
func (f *verifyFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.evidence, "evidence", "", "evidence: raw bytes of the TEE, or the JSON of cloister attest evidence; - is stdin")
	fl.StringArrayVar(&f.endorsements, "endorsements", nil, "file or directory with certificates (PEM, DER), CRLs and collateral (JSON), repeatable")
	fl.BoolVar(&f.cached, "cached", false, "add what the cache of collateral holds for this platform (see cloister attest collateral)")
	fl.StringVar(&f.cache, "cache", "", "directory of that cache (default ~/.cache/cloister/collateral)")
	fl.StringVar(&f.roots, "roots", "", "trust these certificates instead of the built-in vendor roots (PEM, DER)")
	fl.StringVar(&f.eventLog, "event-log", "", "the firmware's event log, to replay to the measured registers (TCG2, CCEL)")
	fl.StringVar(&f.kind, "type", "", "TEE of the evidence (default: told by its bytes): "+joinKinds(all.Verifiers()))
	fl.StringVar(&f.at, "at", "", "verify at this time (RFC 3339; default now)")
	fl.StringVar(&f.reportData, "report-data", "", "the report data that the evidence must carry (128 hex digits)")
}

func joinKinds(vs []tee.Verifier) string {
	names := make([]string, len(vs))
	for i, v := range vs {
		names[i] = string(v.Kind())
	}
	return strings.Join(names, ", ")
}

func (a *app) verify(f verifyFlags) error {
	if f.expected != "" && f.noPolicy {
		return usageError("--expected and --no-policy exclude each other", "")
	}
	c, err := a.verifyInput(f)
	if err != nil {
		return err
	}
	var expected measured
	if f.expected != "" {
		if expected, err = readExpected(f.expected, c.Policy); err != nil {
			return err
		}
	}
	name := "none"
	if c.Policy != nil {
		name = c.Policy.Name
		if _, err := attest.Compile(*c.Policy); err != nil {
			return policyError(f.policy, err)
		}
	}
	r, failures, v := record.Judge(attest.NewVerifier(all.Verifiers()...), c)
	out := verdict{
		Verified: r.Verified, TEE: r.TEE, TCBStatus: r.TCB, Findings: r.Findings, Accepted: r.Accepted, Policy: name,
		Failures: append([]tee.Failure{}, failures...), At: r.At, Claims: r.Claims,
	}
	if v != nil {
		out.Debug, out.Simulated = v.Claims.Debug, v.Claims.Simulated
	}
	if !r.Accepted {
		out.Failures = append(out.Failures, expected.differences(v)...)
	}
	if f.record != "" {
		archive, err := record.OpenArchive(f.record)
		if err != nil {
			return err
		}
		if out.Record, err = archive.Add(c, r); err != nil {
			return err
		}
	}
	if err := a.show(out, out.table); err != nil {
		return err
	}
	if !out.Accepted {
		return withStatus(exitRefused)
	}
	return nil
}

// verifyInput reads everything that a verdict depends on.
func (a *app) verifyInput(f verifyFlags) (c record.Case, err error) {
	if f.evidence == "" {
		return c, usageError("--evidence is missing", "name the evidence: --evidence FILE")
	}
	if f.policy != "" && f.noPolicy {
		return c, usageError("--policy and --no-policy exclude each other", "")
	}
	c.Input.At = time.Now().UTC()
	if f.at != "" {
		if c.Input.At, err = time.Parse(time.RFC3339, f.at); err != nil {
			return c, usageError(fmt.Sprintf("--at %q: want RFC 3339, for example 2026-01-31T12:00:00Z", f.at), "")
		}
	}
	if f.reportData != "" {
		if c.ReportData, err = hex.DecodeString(f.reportData); err != nil || len(c.ReportData) != 64 {
			return c, usageError("--report-data: want 128 hex digits", "")
		}
	}
	if c.Evidence, err = a.readEvidence(f.evidence); err != nil {
		return c, err
	}
	if f.kind != "" {
		if c.Evidence.Kind, err = tee.ParseKind(f.kind); err != nil {
			return c, usageError("--type: "+err.Error(), "")
		}
	}
	if f.eventLog != "" {
		if c.Evidence.EventLog, err = readLimited(f.eventLog, tee.MaxEventLog+1); err != nil {
			return c, &coded{status: exitUsage, code: "event_log_file", err: err}
		}
	}
	if err := f.endorse(&c.Input, c.Evidence); err != nil {
		return c, err
	}
	if f.noPolicy {
		return c, nil
	}
	policy := attest.HardwareDefault()
	if f.policy != "" {
		if policy, err = readPolicy(f.policy); err != nil {
			return c, err
		}
	}
	c.Policy = &policy
	return c, nil
}

// endorse reads the endorsements and roots.
func (f verifyFlags) endorse(in *tee.Input, ev tee.Evidence) (err error) {
	for _, path := range f.endorsements {
		if err := addEndorsements(&in.Endorsements, path); err != nil {
			return &coded{status: exitUsage, code: "endorsements", err: err}
		}
	}
	if f.cached {
		if err := addCached(&in.Endorsements, f.cache, ev); err != nil {
			return err
		}
	}
	if f.roots != "" {
		if in.Roots, err = readRoots(f.roots); err != nil {
			return &coded{status: exitUsage, code: "roots", err: err}
		}
	}
	return nil
}

// addCached adds what the cache of collateral holds for a platform.
func addCached(en *tee.Endorsements, dir string, ev tee.Evidence) error {
	store, err := openCollateral(dir)
	if err != nil {
		return err
	}
	more, err := store.For(ev)
	if err != nil {
		return err
	}
	en.Certificates, en.CRLs = append(en.Certificates, more.Certificates...), append(en.CRLs, more.CRLs...)
	if en.Collateral == nil {
		en.Collateral = map[string][]byte{}
	}
	maps.Copy(en.Collateral, more.Collateral)
	return nil
}

// readEvidence reads raw evidence, or the JSON form that this program writes.
func (a *app) readEvidence(path string) (tee.Evidence, error) {
	var b []byte
	var err error
	const limit = 4 * tee.MaxEvidence // base64 and certificates included
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(a.stdin, limit))
	} else {
		b, err = readLimited(path, limit)
	}
	if err != nil {
		return tee.Evidence{}, &coded{status: exitUsage, code: "evidence_file", err: err}
	}
	var ev tee.Evidence
	if json.Unmarshal(b, &ev) == nil && ev.Kind != "" && len(ev.Data) > 0 {
		return ev, nil
	}
	return unwrapEvidence(b)
}

// unwrapEvidence takes evidence out of a conceptual message wrapper. Of its forms
// those are tried that no evidence begins like: an array in JSON, and in CBOR an
// array of two or three, or a tag of a content format.
func unwrapEvidence(b []byte) (tee.Evidence, error) {
	if len(b) == 0 || b[0] != '[' && b[0] != 0x82 && b[0] != 0x83 && b[0] != 0xda {
		return tee.Evidence{Data: b}, nil
	}
	text := b
	if b[0] == '[' {
		text = bytes.TrimSpace(b)
	}
	if m, err := cmw.Parse(text); err == nil {
		return cmw.Evidence(m)
	}
	return tee.Evidence{Data: b}, nil // the verifier says what it is not
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (v verdict) table(w io.Writer) {
	name := orDash(string(v.TEE))
	if v.Simulated {
		name += " (simulated)"
	}
	fmt.Fprintf(w, "TEE:\t%s\nVerified:\t%s at %s\n", name, yesNo(v.Verified), v.At.Format(time.RFC3339))
	if v.Verified {
		fmt.Fprintf(w, "Debug:\t%s\nTCB:\t%s\n", yesNo(v.Debug), v.TCBStatus)
	}
	fmt.Fprintf(w, "Accepted:\t%s (policy: %s)\n", yesNo(v.Accepted), v.Policy)
	for _, f := range v.Failures {
		fmt.Fprintf(w, "Refused:\t%s\n", oneLine(f.String()))
		if f.Hint != "" {
			fmt.Fprintf(w, "\thint: %s\n", oneLine(f.Hint))
		}
	}
	for _, f := range v.Findings {
		fmt.Fprintf(w, "Finding:\t%s: %s\n", f.Code, oneLine(f.Detail))
	}
	if len(v.Claims) > 0 {
		fmt.Fprintln(w, "Claims:") // a line of its own lets the columns below start anew
	}
	printTree(w, "", v.Claims)
}

// printTree prints claims, one per line, by path.
func printTree(w io.Writer, prefix string, tree map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(tree)) {
		switch v := tree[k].(type) {
		case map[string]any:
			printTree(w, prefix+k+".", v)
		case string:
			if v != "" {
				fmt.Fprintf(w, "  %s%s:\t%s\n", prefix, k, oneLine(v))
			}
		default:
			fmt.Fprintf(w, "  %s%s:\t%v\n", prefix, k, v)
		}
	}
}
