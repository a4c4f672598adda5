package sgx

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
)

// Verifier verifies ECDSA quotes of SGX enclaves, of version 3, 4 and 5, as
// [dcap.Verifier] says. It takes a bare quote, a quote in the header of Open
// Enclave, and a certificate of RA-TLS (of Gramine or Open Enclave) that carries
// one; of such a certificate it verifies that the quote vouches for its key, and
// nothing about any channel.
//
// PCK certificates, their issuers and those of TCB signers may be in
// Evidence.Certificates or Endorsements.Certificates. Endorsements.CRLs are the
// lists of the root and of the PCK authorities. Endorsements.Collateral holds
// answers of Intel's PCS under any name: TCB information and the quoting
// enclave's identity. Roots are Intel's, embedded, or Input.Roots.
//
// Claims of a verified quote: Measurement is MRENCLAVE, Signer is MRSIGNER,
// Product is ISVPRODID, SVN is ISVSVN, Platform is the PPID, Debug is the
// attribute DEBUG, TCB is Intel's status, Unknown without collateral. There is
// no launch digest and no instance id. Vendor has mrenclave, mrsigner,
// product_id, svn, debug, attributes, misc_select, config_id, config_svn,
// isv_family_id, isv_ext_prod_id and what dcap.Result.PlatformClaims lists.
//
// It is pure and safe for concurrent use; the zero value works.
type Verifier struct{ dcap dcap.Verifier }

// New returns a verifier that has Intel's root embedded.
func New() *Verifier { return &Verifier{} }

// Kind is tee.SGX.
func (v *Verifier) Kind() tee.Kind { return tee.SGX }

// Detect reports whether data starts as an SGX quote does, bare, in Open
// Enclave's header, or in a certificate.
func (v *Verifier) Detect(data []byte) bool {
	if isCertificate(data) {
		return quoteExtension(data) != nil
	}
	quote := unwrap(data)
	// A version that this build does not know is left to Verify, which names it.
	return len(quote) >= 48 && binary.LittleEndian.Uint16(quote) >= 3 && binary.LittleEndian.Uint16(quote) < 16 &&
		binary.LittleEndian.Uint16(quote[2:]) == 2 && binary.LittleEndian.Uint32(quote[4:]) == 0
}

// Verify returns what the evidence proves; see [Verifier]. Whether the report
// data is the expected one is for the caller to check. The error is a
// *tee.VerifyError with the codes of [dcap.Verifier.Verify], and CodeBinding
// for a certificate whose key the quote does not vouch for.
func (v *Verifier) Verify(ev tee.Evidence, in tee.Input) (tee.Claims, []tee.Finding, error) {
	quote, bound, failure := open(ev.Data)
	if failure != nil {
		return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.SGX, Failures: []tee.Failure{*failure}}
	}
	ev.Data = quote
	r, err := v.dcap.Verify(tee.SGX, ev, in)
	if err != nil {
		return tee.Claims{}, nil, err
	}
	report := dcap.ParseEnclaveReport(r.Quote.Body)
	if failure := bound.check(report.ReportData); failure != nil {
		return tee.Claims{}, nil, &tee.VerifyError{Kind: tee.SGX, Failures: []tee.Failure{*failure}}
	}
	return claimsFrom(r, report), r.Findings, nil
}

func claimsFrom(r *dcap.Result, b dcap.EnclaveReport) tee.Claims {
	// All hex is cut from one string: a claim costs no allocation of its own.
	text := hex.EncodeToString(r.Quote.Body)
	hexOf := func(off, size int) string { return text[2*off : 2*(off+size)] }
	m := r.PlatformClaims()
	m["mrenclave"] = hexOf(64, 32)
	m["mrsigner"] = hexOf(128, 32)
	m["product_id"] = uint64(b.ISVProdID)
	m["svn"] = uint64(b.ISVSVN)
	m["debug"] = b.Debug()
	m["attributes"] = hexOf(48, 16)
	m["misc_select"] = uint64(b.MiscSelect)
	m["config_id"] = hexOf(192, 64)
	m["config_svn"] = uint64(b.ConfigSVN)
	m["isv_family_id"] = hexOf(304, 16)
	m["isv_ext_prod_id"] = hexOf(32, 16)
	body := clone(r.Quote.Body) // what the claims keep is theirs
	return tee.Claims{
		TEE: tee.SGX, Debug: b.Debug(), Measurement: body[64:96], Signer: body[128:160],
		Product: uint32(b.ISVProdID), SVN: uint32(b.ISVSVN), ReportData: body[320:384],
		Platform: r.Platform(), TCB: r.Status, Vendor: m,
	}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// Interface guard.
var _ tee.Verifier = (*Verifier)(nil)
