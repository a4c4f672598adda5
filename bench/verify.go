package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/verify"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// snp is a verification with a VCEK that was seen before, beside the one P-384
// verification in it.
func (b *bench) snp() ([]figure, error) {
	verify, err := b.snpVerification()
	if err != nil {
		return nil, err
	}
	one, err := p384Verification()
	if err != nil {
		return nil, err
	}
	var failed error
	ours, limit := pair(func() {
		if err := verify(); err != nil {
			failed = err
		}
	}, one)
	f := figure{Name: "SEV-SNP verification, known VCEK", Value: ours / 1000, Unit: "µs", Against: "one P-384 verification", Limit: limit / 1000, Ratio: ours / limit, Bar: "<= 1.15 x"}
	return []figure{f}, failed
}

// snpVerification verifies a recorded report of a real machine.
func (b *bench) snpVerification() (func() error, error) {
	dir := filepath.Join(b.root, "tee", "snp", "testdata")
	report, err := os.ReadFile(filepath.Join(dir, "milan-v3-report.bin"))
	if err != nil {
		return nil, err
	}
	vcek, err := os.ReadFile(filepath.Join(dir, "milan-v3-vcek.der"))
	if err != nil {
		return nil, err
	}
	v := snp.New()
	ev := tee.Evidence{Kind: tee.SNP, Data: report, Certificates: [][]byte{vcek}}
	in := tee.Input{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	check := func() error { _, _, err := v.Verify(ev, in); return err }
	return check, check() // the first one fills the cache
}

// dcapAt is when the recorded collateral of SGX and TDX holds.
var dcapAt = time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)

// dcap verifies recorded quotes of a platform and with collateral that were seen
// before, revocation and the evaluation of the TCB included, beside the two P-256
// verifications in it, and beside another verifier.
func (b *bench) dcap() ([]figure, error) {
	var figures []figure
	twoP256, err := p256Verifications(2)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		v           tee.Verifier
		quote, name string
	}{{sgx.New(), "v3", "SGX"}, {tdx.New(), "v4", "TDX"}} {
		dir := filepath.Join(b.root, "tee", string(c.v.Kind()), "testdata")
		ev, in, set, err := recordedQuote(c.v.Kind(), dir, c.quote)
		if err != nil {
			return nil, err
		}
		var failed error
		one := func() {
			if _, _, err := c.v.Verify(ev, in); err != nil {
				failed = err
			}
		}
		one() // fills the cache
		ours, limit := pair(one, twoP256)
		figures = append(figures, figure{
			Name: c.name + " verification, known platform, full TCB evaluation", Value: ours / 1000, Unit: "µs",
			Against: "two P-256 verifications", Limit: limit / 1000, Ratio: ours / limit, Bar: "<= 1.30 x",
		})
		if c.v.Kind() == tee.TDX {
			other, err := otherVerifier(set)
			if err != nil {
				return nil, err
			}
			ours, theirs := pair(one, func() {
				if err := other(ev.Data); err != nil {
					failed = err
				}
			})
			figures = append(figures, figure{
				Name: "TDX verification, times as fast as go-tdx-guest, collateral in memory", Value: theirs / ours, Unit: "x",
				Bar: ">= 8 x",
			})
		}
		if failed != nil {
			return nil, failed
		}
	}
	return figures, nil
}

// p256Verifications returns n verifications of a P-256 signature over as much as
// a quote signs.
func p256Verifications(n int) (func(), error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	message := make([]byte, 632)
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	return func() {
		for range n {
			digest := sha256.Sum256(message)
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
				panic("P-256 does not verify")
			}
		}
	}, nil
}

// recordedQuote reads a quote and its collateral.
func recordedQuote(kind tee.Kind, dir, name string) (ev tee.Evidence, in tee.Input, set map[string]string, err error) {
	quote, err := os.ReadFile(filepath.Join(dir, name+"-quote.bin"))
	if err != nil {
		return ev, in, nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, name+"-collateral.json"))
	if err != nil {
		return ev, in, nil, err
	}
	in.At = dcapAt
	if err := collateral.Read(&in.Endorsements, "collateral.json", raw); err != nil {
		return ev, in, nil, err
	}
	return tee.Evidence{Kind: kind, Data: quote}, in, set, json.Unmarshal(raw, &set)
}

// intelService answers as Intel's does, from recorded collateral in memory.
type intelService map[string]string

// Get implements the other verifier's interface.
func (s intelService) Get(u string) (map[string][]string, []byte, error) {
	chain := func(name string) []string { return []string{url.QueryEscape(s[name])} }
	list := func(name string) []byte { b, _ := hex.DecodeString(s[name]); return b }
	switch {
	case strings.Contains(u, "/pckcrl"):
		return map[string][]string{"Sgx-Pck-Crl-Issuer-Chain": chain("pck_crl_issuer_chain")}, list("pck_crl"), nil
	case strings.Contains(u, "/tcb?"):
		return map[string][]string{"Tcb-Info-Issuer-Chain": chain("tcb_info_issuer_chain")}, fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, s["tcb_info"], s["tcb_info_signature"]), nil
	case strings.Contains(u, "/qe/identity"):
		return map[string][]string{"Sgx-Enclave-Identity-Issuer-Chain": chain("qe_identity_issuer_chain")}, fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, s["qe_identity"], s["qe_identity_signature"]), nil
	}
	return nil, list("root_ca_crl"), nil
}

// otherVerifier is go-tdx-guest with the same collateral, doing the same checks.
func otherVerifier(set map[string]string) (func(quote []byte) error, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(set["tcb_info_issuer_chain"])) {
		return nil, errors.New("no root in the recorded collateral")
	}
	o := verify.Options{
		CheckRevocations: true, GetCollateral: true, Getter: intelService(set), TrustedRoots: roots,
		Now: &verify.TimeSet{PckCertChain: dcapAt, TcbInfo: dcapAt, QeIdentity: dcapAt, PckCrl: dcapAt, RootCaCrl: dcapAt},
	}
	return func(quote []byte) error { o := o; return verify.RawTdxQuote(quote, &o) }, nil
}
