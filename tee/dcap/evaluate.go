package dcap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// evaluation is how current a platform is, by Intel's rules (SGX-TDX DCAP Quote
// Verification Library: QuoteVerifier, TcbLevelCheck, TdxModuleCheck,
// TDRelaunchCheck).
type evaluation struct {
	status     tee.TCBStatus
	date       string // of the level
	advisories []string
}

func (e *evaluation) add(advisories []string) {
	for _, a := range advisories {
		if !slices.Contains(e.advisories, a) {
			e.advisories = append(e.advisories, a)
		}
	}
}

// evaluate gives a platform and a quoting enclave their status. The quoting
// enclave's is merged in last, so that it can only make things worse.
func (t *tcbInfo) evaluate(q *Quote, p PCK, qe *svnLevel) (evaluation, *tee.Failure) {
	sgx := t.sgxLevel(p)
	if sgx == nil {
		return evaluation{}, unsupported("pce_svn and cpu_svn", fmt.Sprintf("PCESVN %d, CPUSVN components %v", p.PCESVN, p.Components))
	}
	e := evaluation{status: sgx.Status, date: sgx.Date}
	if q.Kind == tee.TDX {
		tdx := t.tdxLevel(p, td{q.Body}.teeTCBSVN())
		if tdx == nil {
			return evaluation{}, unsupported("tee_tcb_svn", fmt.Sprintf("%x", td{q.Body}.teeTCBSVN()))
		}
		e = evaluation{status: tdx.Status, date: tdx.Date}
		e.add(tdx.Advisories)
		if failure := t.evaluateModule(&e, td{q.Body}, sgx.Status, qe.Status); failure != nil {
			return evaluation{}, failure
		}
	} else {
		e.add(sgx.Advisories)
	}
	e.status = merge(e.status, qe.Status)
	e.add(qe.Advisories)
	return e, nil
}

func unsupported(claim, got string) *tee.Failure {
	return &tee.Failure{Code: tee.CodeTCBUnsupported, Claim: claim, Want: "a TCB level that Intel lists", Got: got, Hint: "the platform's firmware is older than anything that Intel still knows: update it"}
}

// sgxLevel is the first level that the platform's processor reaches.
func (t *tcbInfo) sgxLevel(p PCK) *tcbLevel {
	for i := range t.Levels {
		if t.Levels[i].reachedBy(p) {
			return &t.Levels[i]
		}
	}
	return nil
}

func (l *tcbLevel) reachedBy(p PCK) bool {
	return atLeast(p.Components, l.SGX, 0) && p.PCESVN >= l.PCESVN
}

func atLeast(got, want [16]uint8, from int) bool {
	for i := from; i < len(got); i++ {
		if got[i] < want[i] {
			return false
		}
	}
	return true
}

// tdxLevel is the first level that the TDX module reaches as well. Where the
// module has a version of its own, its identity says how current it is, and the
// first two components are not compared.
func (t *tcbInfo) tdxLevel(p PCK, svn [16]uint8) *tcbLevel {
	from := 0
	if svn[1] > 0 {
		from = 2
	}
	for i := range t.Levels {
		if l := &t.Levels[i]; l.reachedBy(p) && atLeast(svn, l.TDX, from) {
			return l
		}
	}
	return nil
}

// module is the identity of a TDX module by the version in its SVN. Module 0 has
// no levels of its own.
func (t *tcbInfo) module(svn [16]uint8) (*moduleIdentity, *tee.Failure) {
	if svn[1] == 0 {
		return t.Module, nil
	}
	name := fmt.Sprintf("TDX_%02X", svn[1])
	for id, m := range t.Modules {
		if strings.EqualFold(id, name) {
			return m, nil
		}
	}
	return nil, &tee.Failure{Code: tee.CodeModuleIdentity, Claim: "tdx module", Want: "one that Intel lists", Got: name, Hint: "fetch newer TCB information, or update the TDX module"}
}

// evaluateModule compares the TDX module with the one that Intel signed, and
// merges what it is worth.
func (t *tcbInfo) evaluateModule(e *evaluation, b td, sgx, qe tee.TCBStatus) *tee.Failure {
	svn := b.teeTCBSVN()
	m, failure := t.module(svn)
	if failure != nil {
		return failure
	}
	if !bytes.Equal(m.MRSigner, b.mrSignerSEAM()) {
		return &tee.Failure{Code: tee.CodeModuleIdentity, Claim: "mr_signer_seam", Want: fmt.Sprintf("%x", m.MRSigner), Got: fmt.Sprintf("%x", b.mrSignerSEAM())}
	}
	if !maskedEqual(b.seamAttributes(), m.Attributes, m.AttributesMask) {
		return &tee.Failure{Code: tee.CodeModuleIdentity, Claim: "seam_attributes", Want: fmt.Sprintf("%x under mask %x", m.Attributes, m.AttributesMask), Got: fmt.Sprintf("%x", b.seamAttributes())}
	}
	status := tee.TCBUpToDate
	if svn[1] > 0 {
		level := levelOf(m.Levels, uint16(svn[0]))
		if level == nil {
			return unsupported("tdx module security version", fmt.Sprint(svn[0]))
		}
		status = level.Status
		e.add(level.Advisories)
	}
	e.status = merge(e.status, status)
	if b.is15() {
		return t.adviseRelaunch(e, b.teeTCBSVN2(), sgx, status, qe)
	}
	return nil
}

// adviseRelaunch tells a platform that is out of date from one that has been
// updated while the TD ran: TEE_TCB_SVN is what the TD was launched on,
// TEE_TCB_SVN_2 is what it runs on now (QVL, TDRelaunchCheck).
func (t *tcbInfo) adviseRelaunch(e *evaluation, now [16]uint8, sgx, module, qe tee.TCBStatus) *tee.Failure {
	old := e.status == tee.TCBOutOfDate || e.status == tee.TCBOutOfDateConfigurationNeeded
	sound := sgx == tee.TCBUpToDate || sgx == tee.TCBSWHardeningNeeded || configurationNeeded(sgx) && sgx != tee.TCBOutOfDateConfigurationNeeded
	if !old || !sound || module != tee.TCBOutOfDate || qe == tee.TCBOutOfDate || qe == tee.TCBRevoked {
		return nil
	}
	newest := t.Levels[0]
	least := uint16(newest.TDX[0])
	if now[1] > 0 {
		m, failure := t.module(now)
		if failure != nil {
			return failure
		}
		if len(m.Levels) == 0 {
			return unsupported("tdx module security version", fmt.Sprint(now[0]))
		}
		least = m.Levels[0].ISVSVN
	}
	if uint16(now[0]) < least || now[2] < newest.TDX[2] {
		return nil
	}
	if configurationNeeded(sgx) || configurationNeeded(e.status) {
		e.status = tee.TCBTDRelaunchAdvisedConfigurationNeeded
	} else {
		e.status = tee.TCBTDRelaunchAdvised
	}
	return nil
}

func configurationNeeded(s tee.TCBStatus) bool {
	return s == tee.TCBConfigurationNeeded || s == tee.TCBConfigurationAndSWHardeningNeeded || s == tee.TCBOutOfDateConfigurationNeeded
}

// merge makes a platform's status worse by that of one of its parts.
func merge(platform, part tee.TCBStatus) tee.TCBStatus {
	switch {
	case platform == tee.TCBRevoked || part == tee.TCBRevoked:
		return tee.TCBRevoked
	case part != tee.TCBOutOfDate:
		return platform
	case platform == tee.TCBUpToDate || platform == tee.TCBSWHardeningNeeded:
		return tee.TCBOutOfDate
	case platform == tee.TCBConfigurationNeeded || platform == tee.TCBConfigurationAndSWHardeningNeeded:
		return tee.TCBOutOfDateConfigurationNeeded
	default:
		return platform
	}
}

// levelOf is the first level that a security version reaches.
func levelOf(levels []svnLevel, svn uint16) *svnLevel {
	for i := range levels {
		if svn >= levels[i].ISVSVN {
			return &levels[i]
		}
	}
	return nil
}

// check compares a quoting enclave with the one that Intel names and returns its
// level.
func (e *enclaveIdentity) check(r EnclaveReport) (*svnLevel, []tee.Failure) {
	var failures []tee.Failure
	bad := func(claim, want, got string) {
		failures = append(failures, tee.Failure{Code: tee.CodeQEIdentity, Claim: "quoting enclave " + claim, Want: want, Got: got, Hint: "this is not the quoting enclave that Intel names, or the identity is too old"})
	}
	if !bytes.Equal(r.MRSIGNER, e.MRSigner) {
		bad("mrsigner", fmt.Sprintf("%x", e.MRSigner), fmt.Sprintf("%x", r.MRSIGNER))
	}
	if r.ISVProdID != e.ISVProdID {
		bad("product id", fmt.Sprint(e.ISVProdID), fmt.Sprint(r.ISVProdID))
	}
	misc := binary.LittleEndian.AppendUint32(nil, r.MiscSelect)
	if !maskedEqual(misc, e.MiscSelect, e.MiscSelectMask) {
		bad("miscselect", fmt.Sprintf("%x under mask %x", e.MiscSelect, e.MiscSelectMask), fmt.Sprintf("%x", misc))
	}
	if !maskedEqual(r.Attributes, e.Attributes, e.AttributesMask) {
		bad("attributes", fmt.Sprintf("%x under mask %x", e.Attributes, e.AttributesMask), fmt.Sprintf("%x", r.Attributes))
	}
	level := levelOf(e.Levels, r.ISVSVN)
	if level == nil {
		bad("security version", fmt.Sprintf("at least %d", e.Levels[len(e.Levels)-1].ISVSVN), fmt.Sprint(r.ISVSVN))
	}
	return level, failures
}

// maskedEqual compares the bits that the mask names. The three have one size.
func maskedEqual(got, want, mask []byte) bool {
	if len(got) != len(want) || len(got) != len(mask) {
		return false
	}
	for i := range got {
		if got[i]&mask[i] != want[i]&mask[i] {
			return false
		}
	}
	return true
}
