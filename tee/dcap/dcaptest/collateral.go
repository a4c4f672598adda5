package dcaptest

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

// CollateralOptions describe what Intel says. The zero value is everything that
// a platform of [PlatformOptions] needs, with an older level that is OutOfDate.
type CollateralOptions struct {
	TDX     bool // about TDX, not SGX
	Version int  // of the TCB information: 3, or 2
	// TCBInfo and Identity change the documents before they are signed.
	TCBInfo, Identity func(map[string]any)
	Signer            *Authority // nil: Intel's
	// Revoked are certificates on the list of their issuer.
	Revoked []*x509.Certificate
	CRLs    Validity
}

// Input is the roots, At, and [Intel.Endorsements].
func (i *Intel) Input(tb testing.TB, o CollateralOptions) tee.Input {
	tb.Helper()
	return tee.Input{Roots: i.Roots(), At: At, Endorsements: i.Endorsements(tb, o)}
}

// Endorsements are lists of both authorities, TCB information, the quoting
// enclave's identity, and the signer's certificate.
func (i *Intel) Endorsements(tb testing.TB, o CollateralOptions) tee.Endorsements {
	tb.Helper()
	if o.Signer == nil {
		o.Signer = i.TCBSigner
	}
	info, identity := tcbInfo(o), identity(o)
	if o.TCBInfo != nil {
		o.TCBInfo(info)
	}
	if o.Identity != nil {
		o.Identity(identity)
	}
	return tee.Endorsements{
		Certificates: [][]byte{o.Signer.Certificate.Raw},
		CRLs:         [][]byte{i.Root.CRL(tb, o.CRLs, o.issuedBy(i.Root)...), i.PlatformCA.CRL(tb, o.CRLs, o.issuedBy(i.PlatformCA)...)},
		Collateral: map[string][]byte{
			"tcbinfo.json": Answer(tb, o.Signer, "tcbInfo", info), "qeidentity.json": Answer(tb, o.Signer, "enclaveIdentity", identity),
		},
	}
}

func (o CollateralOptions) issuedBy(a *Authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range o.Revoked {
		if bytes.Equal(c.RawIssuer, a.Certificate.RawSubject) {
			out = append(out, c)
		}
	}
	return out
}

// Answer is a document as Intel's service gives it, signed.
func Answer(tb testing.TB, signer *Authority, member string, document map[string]any) []byte {
	tb.Helper()
	body, err := json.Marshal(document)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, member, body, sign(tb, signer.Key, body))
}

func dates(m map[string]any) map[string]any {
	m["issueDate"], m["nextUpdate"] = At.AddDate(0, 0, -2).Format("2006-01-02T15:04:05Z"), At.AddDate(0, 0, 28).Format("2006-01-02T15:04:05Z")
	m["tcbEvaluationDataNumber"] = 20
	return m
}

func tcbInfo(o CollateralOptions) map[string]any {
	newest, older := CurrentComponents, CurrentComponents
	older[0] = 5
	tdxOlder := CurrentTDX
	tdxOlder[2] = 4
	m := dates(map[string]any{
		"id": "SGX", "version": 3, "fmspc": hex.EncodeToString(FMSPC[:]), "pceId": "0000", "tcbType": 0,
		"tcbLevels": []any{
			Level(o, newest, CurrentTDX, CurrentPCESVN, tee.TCBUpToDate),
			Level(o, older, tdxOlder, CurrentPCESVN-1, tee.TCBOutOfDate, "INTEL-SA-99999"),
		},
	})
	switch {
	case o.Version == 2:
		m["version"] = 2
		delete(m, "id")
	case o.TDX:
		m["id"] = "TDX"
		m["tdxModule"] = Module("")
		m["tdxModuleIdentities"] = []any{Module("TDX_01", SVNLevel(5, tee.TCBUpToDate), SVNLevel(3, tee.TCBOutOfDate, "INTEL-SA-88888"))}
	}
	return m
}

// Level is a level of TCB information.
func Level(o CollateralOptions, sgx, tdx [16]uint8, pceSVN uint16, status tee.TCBStatus, advisories ...string) map[string]any {
	tcb := map[string]any{"pcesvn": pceSVN}
	for i, svn := range sgx {
		if o.Version == 2 {
			tcb[fmt.Sprintf("sgxtcbcomp%02dsvn", i+1)] = svn
		}
	}
	if o.Version != 2 {
		tcb["sgxtcbcomponents"] = components(sgx)
	}
	if o.TDX {
		tcb["tdxtcbcomponents"] = components(tdx)
	}
	return map[string]any{"tcb": tcb, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

func components(svns [16]uint8) []any {
	out := make([]any, len(svns))
	for i, svn := range svns {
		out[i] = map[string]any{"svn": svn}
	}
	return out
}

// Module is a TDX module of TCB information; without a name the one of
// tdxModule.
func Module(id string, levels ...map[string]any) map[string]any {
	m := map[string]any{"mrsigner": hex.EncodeToString(ModuleMRSigner), "attributes": "0000000000000000", "attributesMask": "ffffffffffffffff"}
	if id != "" {
		m["id"], m["tcbLevels"] = id, levels
	}
	return m
}

// SVNLevel is a level of a module or of a quoting enclave.
func SVNLevel(svn uint16, status tee.TCBStatus, advisories ...string) map[string]any {
	return map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

func identity(o CollateralOptions) map[string]any {
	id := "QE"
	if o.TDX {
		id = "TD_QE"
	}
	return dates(map[string]any{
		"id": id, "version": 2, "miscselect": "00000000", "miscselectMask": "ffffffff",
		"attributes": hex.EncodeToString(QEAttributes), "attributesMask": "fbffffffffffffff0000000000000000",
		"mrsigner": hex.EncodeToString(QEMRSigner), "isvprodid": QEProdID,
		"tcbLevels": []any{SVNLevel(QESVN, tee.TCBUpToDate), SVNLevel(5, tee.TCBOutOfDate, "INTEL-SA-77777"), SVNLevel(2, tee.TCBRevoked)},
	})
}
