package cli

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

func (a *app) attestToken() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Issue and verify attestation results", Args: cobra.NoArgs,
		Long: "An attestation result is a verifier's signed statement about evidence that it appraised: an EAR in a\n" +
			"JWT. Issue makes one under a key of yours, for relying parties that trust it; verify checks one\n" +
			"strictly: the issuer's keys come from you and never from the token.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.tokenIssue(), a.tokenVerify(), a.tokenJWKS())
	return cmd
}

// issueFlags say whom a token is by and for.
type issueFlags struct{ identity, issuer, audience, nonce, format string }

// tokenOutput is the output of `attest token issue`.
type tokenOutput struct {
	Token string `json:"token"`
}

// signingKey is the private key of an identity.
func signingKey(path string) (*ecdsa.PrivateKey, error) {
	id, err := loadIdentity(path)
	if err != nil {
		return nil, err
	}
	key, ok := id.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the identity is not an ECDSA key")
	}
	return key, nil
}

func (a *app) tokenJWKS() *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use: "jwks", Short: "Print the keys that your tokens are verified with", Args: cobra.NoArgs,
		Example: "  cloister attest token jwks >jwks.json",
		RunE: func(*cobra.Command, []string) error {
			key, err := signingKey(identity)
			if err != nil {
				return err
			}
			set, err := attest.NewKeySet(&key.PublicKey)
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(set)
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "your key pair (default $CLOISTER_IDENTITY or ~/.config/cloister/identity.pem, made the first time)")
	return cmd
}

func (a *app) tokenIssue() *cobra.Command {
	var f verifyFlags
	var i issueFlags
	cmd := &cobra.Command{
		Use: "issue --evidence FILE --report-data HEX --issuer NAME", Short: "Verify and appraise evidence, and state it in a signed token", Args: cobra.NoArgs,
		Long: "Issue does what attest verify does; if the evidence is accepted, it prints an attestation result (EAR,\n" +
			"ES256) signed with your identity. The report data must be given: a token about a recording would be\n" +
			"worth nothing. Relying parties verify\n" +
			"it with what attest token jwks prints.",
		Example: "  cloister attest token issue --evidence quote.bin --cached --report-data 00… --issuer verifier.example --audience api.example",
		RunE: func(*cobra.Command, []string) error {
			if i.issuer == "" || f.reportData == "" {
				return usageError("--issuer or --report-data is missing", "name yourself: --issuer NAME; and what the evidence must carry: --report-data HEX")
			}
			if i.format != "jwt" && i.format != "cwt" {
				return usageError("--format: want jwt or cwt", "")
			}
			return a.issue(f, i)
		},
	}
	f.register(cmd.Flags())
	fl := cmd.Flags()
	fl.StringVar(&f.policy, "policy", "", "appraisal policy (YAML or JSON)")
	fl.StringVar(&i.issuer, "issuer", "", "iss of the token: your name, as relying parties know it")
	fl.StringVar(&i.audience, "audience", "", "aud of the token: the one relying party that it is for")
	fl.StringVar(&i.nonce, "nonce", "", "eat_nonce of the token: the relying party's own (hex, 8 to 64 bytes)")
	fl.StringVar(&i.format, "format", "jwt", "jwt, or cwt: half the bytes, printed in base64")
	fl.StringVar(&i.identity, "identity", "", "your key pair, which signs (default $CLOISTER_IDENTITY or ~/.config/cloister/identity.pem, made the first time)")
	return cmd
}

func (a *app) issue(f verifyFlags, i issueFlags) error {
	c, err := a.verifyInput(f)
	if err != nil {
		return err
	}
	options := attest.IssueOptions{Audience: i.audience}
	if i.nonce != "" {
		if options.Nonce, err = hex.DecodeString(i.nonce); err != nil {
			return usageError("--nonce: want hex", "")
		}
	}
	appraiser, err := attest.Compile(*c.Policy)
	if err != nil {
		return policyError(f.policy, err)
	}
	c.Input.Grace = c.Policy.Grace()
	v, err := attest.NewVerifier(all.Verifiers()...).Verify(c.Evidence, c.Input, c.Binding())
	if err == nil {
		err = appraiser.Appraise(v)
	}
	if err != nil {
		return err
	}
	key, err := signingKey(i.identity)
	if err != nil {
		return err
	}
	issuer, err := attest.NewIssuer(attest.IssuerConfig{Name: i.issuer, Key: key, Now: time.Now})
	if err != nil {
		return err
	}
	token, err := i.state(issuer, v, appraiser.Digest(), options)
	if err != nil {
		return err
	}
	out := tokenOutput{Token: token}
	return a.show(out, func(w io.Writer) { fmt.Fprintln(w, token) })
}

// state makes the token in the form that was asked for; a CWT in base64.
func (i issueFlags) state(issuer *attest.Issuer, v *attest.Verified, policy [32]byte, o attest.IssueOptions) (string, error) {
	if i.format == "jwt" {
		return issuer.Issue(v, policy, o)
	}
	b, err := issuer.IssueCWT(v, policy, o)
	return base64.StdEncoding.EncodeToString(b), err
}

// acceptFlags say which tokens are acceptable.
type acceptFlags struct {
	jwks, issuer, audience, nonce, at string
	policies                          []string
	anyPolicy, noAudience             bool
	simulated, debug, warning         bool
}

// tokenVerdict is the output of `attest token verify`.
type tokenVerdict struct {
	Accepted  bool           `json:"accepted"`
	Failures  []tee.Failure  `json:"failures"`
	Issuer    string         `json:"issuer,omitempty"`
	ID        string         `json:"id,omitempty"`
	Status    attest.Status  `json:"status,omitempty"`
	TEE       tee.Kind       `json:"tee,omitempty"`
	Simulated bool           `json:"simulated"`
	Debug     bool           `json:"debug"`
	Expires   time.Time      `json:"expires,omitzero"`
	Claims    map[string]any `json:"claims,omitempty"`
}

func (a *app) tokenVerify() *cobra.Command {
	var f acceptFlags
	cmd := &cobra.Command{
		Use: "verify FILE --jwks FILE --issuer NAME", Short: "Verify an attestation result as a relying party must", Args: cobra.ExactArgs(1),
		Long: "Verify checks signature, issuer, audience, policy, dates and status of a token; - is stdin. What it\n" +
			"must not check has to be said. The exit status is 0 if the token is acceptable and 3 if not.",
		Example: "  cloister attest token verify token.jwt --jwks jwks.json --issuer verifier.example --audience api.example --policy policy.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			if f.jwks == "" || f.issuer == "" {
				return usageError("--jwks or --issuer is missing", "keys and name of the issuer have to come from somebody who vouches for them")
			}
			return a.verifyToken(args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.jwks, "jwks", "", "key set of the issuer (JSON Web Key Set)")
	fl.StringVar(&f.issuer, "issuer", "", "iss to accept")
	fl.StringVar(&f.audience, "audience", "", "your own name, which the token must carry as aud")
	fl.BoolVar(&f.noAudience, "allow-no-audience", false, "accept tokens that are for nobody in particular")
	fl.StringArrayVar(&f.policies, "policy", nil, "appraisal policy that the issuer must have asked (file, or its digest in hex), repeatable")
	fl.BoolVar(&f.anyPolicy, "allow-any-policy", false, "accept whatever policy was asked")
	fl.StringVar(&f.nonce, "nonce", "", "your nonce, which the token must carry (hex)")
	fl.StringVar(&f.at, "at", "", "verify at this time (RFC 3339; default now)")
	fl.BoolVar(&f.simulated, "allow-simulated", false, "accept a simulated TEE")
	fl.BoolVar(&f.debug, "allow-debug", false, "accept a debug instance")
	fl.BoolVar(&f.warning, "allow-warning", false, "accept known weaknesses, such as old firmware")
	return cmd
}

func (f acceptFlags) verifier() (v attest.TokenVerifier, at time.Time, err error) {
	v = attest.TokenVerifier{
		Issuer: f.issuer, Audience: f.audience, AllowNoAudience: f.noAudience, AllowAnyPolicy: f.anyPolicy,
		AllowSimulated: f.simulated, AllowDebug: f.debug, AllowWarning: f.warning,
	}
	at = time.Now()
	if f.at != "" {
		if at, err = time.Parse(time.RFC3339, f.at); err != nil {
			return v, at, usageError(fmt.Sprintf("--at %q: want RFC 3339, for example 2026-01-31T12:00:00Z", f.at), "")
		}
	}
	if f.nonce != "" {
		if v.Nonce, err = hex.DecodeString(f.nonce); err != nil {
			return v, at, usageError("--nonce: want hex", "")
		}
	}
	raw, err := readLimited(f.jwks, attest.MaxJWKS+1)
	if err == nil {
		v.Keys, err = attest.ParseJWKS(raw)
	}
	if err != nil {
		return v, at, &coded{status: exitUsage, code: "jwks", err: fmt.Errorf("--jwks %s: %w", f.jwks, err)}
	}
	for _, p := range f.policies {
		digest, err := hex.DecodeString(p)
		if err != nil || len(digest) != 32 {
			policy, err := readPolicy(p)
			if err != nil {
				return v, at, err
			}
			d := policy.Digest()
			digest = d[:]
		}
		v.Policies = append(v.Policies, [32]byte(digest))
	}
	return v, at, nil
}

func (a *app) verifyToken(path string, f acceptFlags) error {
	v, at, err := f.verifier()
	if err != nil {
		return err
	}
	var raw []byte
	if path == "-" {
		raw, err = io.ReadAll(io.LimitReader(a.stdin, attest.MaxToken+2))
	} else {
		raw, err = readLimited(path, attest.MaxToken+2)
	}
	if err != nil {
		return &coded{status: exitUsage, code: "token", err: err}
	}
	out := tokenVerdict{Failures: []tee.Failure{}}
	r, err := verifyText(v, raw, at)
	if err != nil {
		out.Failures = append(out.Failures, attest.Failures(err)...)
	} else {
		out = tokenVerdict{
			Accepted: true, Failures: out.Failures, Issuer: r.Issuer, ID: r.ID, Status: r.Status, TEE: r.TEE,
			Simulated: r.Simulated, Debug: r.Debug, Expires: r.Expires, Claims: r.Claims,
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

// verifyText verifies a JWT, or a CWT as it is or in base64.
func verifyText(v attest.TokenVerifier, raw []byte, at time.Time) (*attest.Result, error) {
	text := tokenText(raw)
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && attest.IsCWT(b) {
		return v.VerifyCWT(b, at)
	}
	if attest.IsCWT(raw) {
		return v.VerifyCWT(raw, at)
	}
	return v.Verify(text, at)
}

// tokenText takes a token as it is, or out of the output of issue -o json.
func tokenText(raw []byte) string {
	var o struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(raw, &o) == nil && o.Token != "" {
		return o.Token
	}
	return strings.TrimSpace(string(raw))
}

func (t tokenVerdict) table(w io.Writer) {
	fmt.Fprintf(w, "Accepted:\t%s\n", yesNo(t.Accepted))
	for _, f := range t.Failures {
		fmt.Fprintf(w, "Refused:\t%s\n", oneLine(f.String()))
		if f.Hint != "" {
			fmt.Fprintf(w, "\thint: %s\n", oneLine(f.Hint))
		}
	}
	if !t.Accepted {
		return
	}
	name := string(t.TEE)
	if t.Simulated {
		name += " (simulated)"
	}
	fmt.Fprintf(w, "Issuer:\t%s\nToken:\t%s\nTEE:\t%s\nStatus:\t%s\nExpires:\t%s\n", oneLine(t.Issuer), oneLine(t.ID), name, t.Status, t.Expires.Format(time.RFC3339))
	fmt.Fprintln(w, "Claims:")
	printTree(w, "", t.Claims)
}
