package tdx_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/verify"
	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tdx"
)

// service answers as Intel's does, from the recorded collateral, so that another
// verifier can be asked for its opinion.
type service struct{ set map[string]string }

func (s service) Get(u string) (map[string][]string, []byte, error) {
	chain := func(name string) []string { return []string{url.QueryEscape(s.set[name])} }
	switch {
	case strings.Contains(u, "/pckcrl"):
		return map[string][]string{"Sgx-Pck-Crl-Issuer-Chain": chain("pck_crl_issuer_chain")}, must(hex.DecodeString(s.set["pck_crl"])), nil
	case strings.Contains(u, "/tcb?"):
		return map[string][]string{"Tcb-Info-Issuer-Chain": chain("tcb_info_issuer_chain")}, fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, s.set["tcb_info"], s.set["tcb_info_signature"]), nil
	case strings.Contains(u, "/qe/identity"):
		return map[string][]string{"Sgx-Enclave-Identity-Issuer-Chain": chain("qe_identity_issuer_chain")}, fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, s.set["qe_identity"], s.set["qe_identity_signature"]), nil
	case strings.HasSuffix(u, ".der") || strings.HasSuffix(u, ".crl"):
		return nil, must(hex.DecodeString(s.set["root_ca_crl"])), nil
	}
	return nil, nil, errors.New("no answer for " + u)
}

// oracle asks go-tdx-guest.
func oracle(tb testing.TB, collateral bool) func(quote []byte) error {
	tb.Helper()
	var set map[string]string
	if err := json.Unmarshal(must(os.ReadFile("testdata/v4-collateral.json")), &set); err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(set["tcb_info_issuer_chain"]))
	return func(quote []byte) (err error) {
		// It panics on lengths that point beyond the quote: it does not accept them.
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return verify.RawTdxQuote(quote, &verify.Options{
			CheckRevocations: collateral, GetCollateral: collateral, Getter: service{set}, TrustedRoots: roots,
			Now: &verify.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at},
		})
	}
}

// TestAgreesWithAnotherVerifier on a recorded quote, and on ones that differ from
// it in a byte.
func TestAgreesWithAnotherVerifier(t *testing.T) {
	ev, in := recorded(t)
	if err := oracle(t, true)(ev.Data); err != nil {
		t.Fatal("with collateral: ", err)
	}
	if _, _, err := tdx.New().Verify(ev, in); err != nil {
		t.Fatal(err)
	}
	other, v := oracle(t, false), tdx.New()
	in.Endorsements = tee.Endorsements{}
	const signed = 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32
	rapid.Check(t, func(t *rapid.T) {
		quote := bytes.Clone(ev.Data)
		for range 20 {
			at := rapid.IntRange(0, signed-1).Draw(t, "byte")
			quote[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
			_, _, ours := v.Verify(tee.Evidence{Kind: tee.TDX, Data: quote}, in)
			if theirs := other(quote); (ours == nil) != (theirs == nil) {
				t.Errorf("byte %d: ours %v, theirs %v", at, ours, theirs)
			}
			copy(quote, ev.Data)
		}
	})
}
