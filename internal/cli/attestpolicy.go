package cli

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/attest/releasepolicy"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// The languages that a policy can be written in.
const (
	languageOwn     = "cloister"
	languageAzure   = "azure-attestation"
	languageRelease = "key-release"
)

func (a *app) attestPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Check, test and explain policies", Args: cobra.NoArgs,
		Long: "A policy is one of ours (YAML or JSON, see docs/guide/policies.md), a policy of Azure Attestation\n" +
			"(\"version= 1.0; authorizationrules…\"), or a policy of secure key release (JSON with anyOf).",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.policyCheck(), a.policyTest(false), a.policyTest(true), a.policyFill())
	return cmd
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Check a policy and print its digest", Args: cobra.ExactArgs(1),
		Example: "  cloister attest policy check policy.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readAnyPolicy(args[0])
			if err != nil {
				return err
			}
			out := map[string]any{"valid": true, "name": p.name, "language": p.language, "digest": p.digest}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s: valid\nLanguage:\t%s\nDigest:\t%s\n", oneLine(p.name), p.language, p.digest)
			})
		},
	}
}

// anyPolicy is a policy of any language, ready to decide.
type anyPolicy struct {
	name, language, digest string
	// explain decides over verified claims; authority is who vouches for them.
	explain func(v *attest.Verified, authority string) (accepted bool, why term.Node, issued map[string]any)
}

// isAzurePolicy tells a policy of Azure Attestation, which begins with
// "version= 1.0;", from YAML.
func isAzurePolicy(text string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "version")
	return ok && strings.HasPrefix(strings.TrimSpace(rest), "=")
}

// readAnyPolicy reads a policy and tells its language by its content.
func readAnyPolicy(path string) (anyPolicy, error) {
	raw, err := readLimited(path, attest.MaxPolicy+1)
	if err != nil {
		return anyPolicy{}, &coded{status: exitUsage, code: "policy", err: fmt.Errorf("read policy: %w", err)}
	}
	if isAzurePolicy(string(raw)) {
		return azurePolicy(path, string(raw))
	}
	var probe map[string]json.RawMessage
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' && json.Unmarshal(trimmed, &probe) == nil && (probe["anyOf"] != nil || probe["allOf"] != nil) {
		return releasePolicy(path, raw)
	}
	p, err := readReleasePolicy(path)
	if err != nil {
		return anyPolicy{}, err
	}
	appraiser, err := attest.Compile(p.Appraisal)
	if err != nil {
		return anyPolicy{}, policyError(path, err)
	}
	d := appraiser.Digest()
	return anyPolicy{
		name: p.Appraisal.Name, language: languageOwn, digest: hex.EncodeToString(d[:]),
		explain: func(v *attest.Verified, _ string) (bool, term.Node, map[string]any) {
			n := appraiser.Explain(v)
			return n.Result == term.True, n, nil
		},
	}, nil
}

func azurePolicy(path, text string) (anyPolicy, error) {
	p, err := azurepolicy.Parse(text)
	if e, ok := errors.AsType[*azurepolicy.SyntaxError](err); ok {
		for _, problem := range e.Problems {
			err = fmt.Errorf("%w\n%s", err, problem.Excerpt(text))
		}
	}
	if err != nil {
		return anyPolicy{}, &coded{status: exitUsage, code: "policy", err: fmt.Errorf("policy %s: %w", path, err), hint: "see Microsoft's pages on the policy language of Azure Attestation, and docs/guide/policies.md"}
	}
	return anyPolicy{
		name: path, language: languageAzure, digest: azurepolicy.Hash(text),
		explain: func(v *attest.Verified, _ string) (bool, term.Node, map[string]any) {
			out, err := p.Evaluate(azurepolicy.IncomingClaims(v.Claims.Tree()), azurepolicy.Options{Explain: true})
			return out.Permitted && err == nil, out.Trace, out.Issued
		},
	}, nil
}

func releasePolicy(path string, raw []byte) (anyPolicy, error) {
	p, err := releasepolicy.Parse(raw)
	if err != nil {
		return anyPolicy{}, &coded{status: exitUsage, code: "policy", err: fmt.Errorf("policy %s: %w", path, err), hint: "see docs/guide/policies.md"}
	}
	d := p.Digest()
	return anyPolicy{
		name: path, language: languageRelease, digest: hex.EncodeToString(d[:]),
		explain: func(v *attest.Verified, authority string) (bool, term.Node, map[string]any) {
			claims := azurepolicy.TokenClaims(v.Claims.Tree())
			ok, _ := p.Evaluate(claims, authority)
			return ok, p.Explain(claims, authority), nil
		},
	}, nil
}

// judgement is the output of `attest policy test` and `explain`.
type judgement struct {
	Policy   string         `json:"policy"`
	Language string         `json:"language"`
	Verified bool           `json:"verified"`
	Accepted bool           `json:"accepted"`
	Reason   string         `json:"reason"`   // the first term that refuses
	Failures []tee.Failure  `json:"failures"` // every term that refuses
	Terms    *term.Node     `json:"terms,omitempty"`
	Issued   map[string]any `json:"issued,omitempty"` // claims that an Azure policy issues
}

func (a *app) policyTest(explain bool) *cobra.Command {
	var f verifyFlags
	var authority string
	cmd := &cobra.Command{
		Use: "test POLICY --evidence FILE", Short: "Try a policy on evidence, and name the term that refuses", Args: cobra.ExactArgs(1),
		Long: "Test verifies evidence as attest verify does and lets the policy decide. Nothing is released or\n" +
			"recorded. The exit status is 0 if the policy accepts and 3 if it, or verification, refuses.",
		Example: "  cloister attest policy test policy.yaml --evidence quote.bin --cached",
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readAnyPolicy(args[0])
			if err != nil {
				return err
			}
			return a.judge(p, f, authority, explain)
		},
	}
	if explain {
		cmd.Use, cmd.Short = "explain POLICY --evidence FILE", "Show what every term of a policy says to evidence"
		cmd.Long = "Explain does what test does, and shows every term of the policy with its result."
		cmd.Example = "  cloister attest policy explain azure-policy.txt --evidence report.bin --endorsements vcek.der"
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&authority, "authority", "", "for policies of secure key release: the authority that vouches for the claims")
	return cmd
}

func (a *app) judge(p anyPolicy, f verifyFlags, authority string, explain bool) error {
	f.noPolicy = true
	c, err := a.verifyInput(f)
	if err != nil {
		return err
	}
	out := judgement{Policy: p.name, Language: p.language, Failures: []tee.Failure{}}
	if c.Policy != nil {
		c.Input.Grace = c.Policy.Grace()
	}
	v, err := attest.NewVerifier(all.Verifiers()...).Verify(c.Evidence, c.Input, c.Binding())
	if err != nil {
		out.Failures = append(out.Failures, attest.Failures(err)...)
		out.Reason = "the evidence does not verify"
	} else {
		var why term.Node
		out.Verified = true
		out.Accepted, why, out.Issued = p.explain(v, authority)
		if leaf, refused := why.FirstRefusal(); refused {
			out.Reason = leaf.String()
		}
		out.Failures = append(out.Failures, why.Failures(attest.CodeRule)...)
		if explain {
			out.Terms = &why
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

func (j judgement) table(w io.Writer) {
	fmt.Fprintf(w, "Policy:\t%s (%s)\nVerified:\t%s\nAccepted:\t%s\n", oneLine(j.Policy), j.Language, yesNo(j.Verified), yesNo(j.Accepted))
	if j.Reason != "" {
		fmt.Fprintf(w, "Refused by:\t%s\n", oneLine(j.Reason))
	}
	if !j.Verified {
		for _, f := range j.Failures {
			fmt.Fprintf(w, "\t%s\n", oneLine(f.String()))
		}
	}
	if len(j.Issued) > 0 {
		fmt.Fprintln(w, "Issues:")
		printTree(w, "", j.Issued)
	}
	if j.Terms != nil {
		fmt.Fprintf(w, "\n%s\n", j.Terms)
	}
}

// fillFlags say where reference values come from and whom to believe.
type fillFlags struct {
	values        string
	keys          []string
	allowUnsigned bool
}

func (a *app) policyFill() *cobra.Command {
	var f fillFlags
	cmd := &cobra.Command{
		Use: "fill POLICY --reference-values FILE", Short: "Put reference values into a policy, and print it", Args: cobra.ExactArgs(1),
		Long: "Fill takes reference values from the output of instance measure, from a CoRIM, or from an in-toto\n" +
			"statement in a DSSE envelope, and fills the lists of a policy that are empty or \"any\". A CoRIM and a\n" +
			"statement must be signed by a key that you name.",
		Example: "  cloister instance measure app.wasm -o json >values.json\n" +
			"  cloister attest policy fill policy.yaml --reference-values values.json >filled.json\n" +
			"  cloister attest policy fill policy.yaml --reference-values firmware.corim --key vendor.pem",
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := readJSONFile(args[0])
			if err != nil {
				return err
			}
			// Lists that are to be filled may be missing, so the policy is checked
			// once it is whole.
			var p attest.Policy
			if err := attest.DecodeStrict(b, &p); err != nil {
				return policyError(args[0], err)
			}
			values, err := f.read()
			if err != nil {
				return &coded{status: exitRefused, code: "reference_values", err: err, hint: "name the key that signed them: --key FILE"}
			}
			if err := values.Apply(&p); err != nil {
				return policyError(args[0], err)
			}
			if _, err := attest.Compile(p); err != nil {
				return policyError(args[0], err)
			}
			for _, s := range values.Skipped {
				a.say("not used: %s", oneLine(s))
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(p)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.values, "reference-values", "", "output of instance measure (JSON), CoRIM (CBOR), or in-toto statement (DSSE)")
	fl.StringArrayVar(&f.keys, "key", nil, "public key that may sign them (PEM), repeatable")
	fl.BoolVar(&f.allowUnsigned, "allow-unsigned", false, "take a CoRIM that is not signed, on your own word")
	return cmd
}

func (f fillFlags) read() (refvalues.Values, error) {
	b, err := readLimited(f.values, refvalues.MaxDocument+1)
	if err != nil {
		return refvalues.Values{}, err
	}
	var trusted []crypto.PublicKey
	for _, path := range f.keys {
		text, err := readLimited(path, 64<<10)
		if err != nil {
			return refvalues.Values{}, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return refvalues.Values{}, fmt.Errorf("%s: no PEM of a public key", path)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return refvalues.Values{}, fmt.Errorf("%s: %w", path, err)
		}
		trusted = append(trusted, key)
	}
	var probe map[string]json.RawMessage
	switch {
	case json.Unmarshal(b, &probe) != nil:
		return refvalues.FromCoRIM(b, refvalues.CoRIMOptions{Keys: trusted, AllowUnsigned: f.allowUnsigned, At: time.Now()})
	case probe["payloadType"] != nil:
		return refvalues.FromDSSE(b, trusted)
	default:
		return refvalues.FromMeasure(b)
	}
}
