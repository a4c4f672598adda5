package dcap

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// tcbInfo is what Intel says about the firmware of a family of platforms (PCS
// API v3 and v4, "Get SGX/TDX TCB Info"; versions 2 and 3 of the structure).
type tcbInfo struct {
	period
	ID               string // "SGX" or "TDX"; version 2 is about SGX and has none
	Version          int
	FMSPC            [6]byte
	PCEID            [2]byte
	EvaluationNumber int
	Module           *moduleIdentity            // the TDX module of TEE_TCB_SVN[1] = 0
	Modules          map[string]*moduleIdentity // by name, TDX_01 and on
	Levels           []tcbLevel                 // the newest first
}

// tcbLevel is a level of the firmware and what it is worth.
type tcbLevel struct {
	SGX        [16]uint8
	TDX        [16]uint8
	PCESVN     uint16
	Date       string
	Status     tee.TCBStatus
	Advisories []string
}

// svnLevel is a level of an enclave or a TDX module, by its security version.
type svnLevel struct {
	ISVSVN     uint16
	Date       string
	Status     tee.TCBStatus
	Advisories []string
}

// moduleIdentity is a TDX module that Intel signed.
type moduleIdentity struct {
	MRSigner       []byte // 48 bytes
	Attributes     []byte // 8 bytes
	AttributesMask []byte // 8 bytes
	Levels         []svnLevel
}

// hexBytes is bytes in hex of either case.
type hexBytes []byte

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *hexBytes) UnmarshalText(b []byte) error {
	out, err := hex.DecodeString(string(b))
	*h = out
	return err
}

type wireComponent struct {
	SVN uint8 `json:"svn"`
}

type wireLevel struct {
	TCB        json.RawMessage `json:"tcb"`
	Date       string          `json:"tcbDate"`
	Status     tee.TCBStatus   `json:"tcbStatus"`
	Advisories []string        `json:"advisoryIDs"`
}

type wireModule struct {
	ID             string      `json:"id"`
	MRSigner       hexBytes    `json:"mrsigner"`
	Attributes     hexBytes    `json:"attributes"`
	AttributesMask hexBytes    `json:"attributesMask"`
	Levels         []wireLevel `json:"tcbLevels"`
}

// levelStatuses are the statuses that Intel gives to levels.
var levelStatuses = []tee.TCBStatus{
	tee.TCBUpToDate, tee.TCBSWHardeningNeeded, tee.TCBConfigurationNeeded, tee.TCBConfigurationAndSWHardeningNeeded,
	tee.TCBOutOfDate, tee.TCBOutOfDateConfigurationNeeded, tee.TCBRevoked,
}

func parseTCBInfo(b []byte) (*tcbInfo, error) {
	var w struct {
		period
		ID               string       `json:"id"`
		Version          int          `json:"version"`
		FMSPC            hexBytes     `json:"fmspc"`
		PCEID            hexBytes     `json:"pceId"`
		Type             int          `json:"tcbType"`
		EvaluationNumber int          `json:"tcbEvaluationDataNumber"`
		Module           *wireModule  `json:"tdxModule"`
		Modules          []wireModule `json:"tdxModuleIdentities"`
		Levels           []wireLevel  `json:"tcbLevels"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	t := &tcbInfo{period: w.period, ID: w.ID, Version: w.Version, EvaluationNumber: w.EvaluationNumber, Modules: map[string]*moduleIdentity{}}
	switch {
	case t.Version == 2 && t.ID == "":
		t.ID = "SGX"
	case t.Version == 3 && (t.ID == "SGX" || t.ID == "TDX"):
	default:
		return nil, fmt.Errorf("TCB info of version %d and id %.16q: want version 2, or 3 with SGX or TDX", t.Version, t.ID)
	}
	switch {
	case len(w.FMSPC) != 6 || len(w.PCEID) != 2 || t.IssueDate.IsZero() || t.NextUpdate.IsZero():
		return nil, errors.New("TCB info: fmspc, pceId, issueDate or nextUpdate is missing")
	case w.Type != 0:
		return nil, fmt.Errorf("TCB info: tcbType %d: want 0", w.Type)
	case len(w.Levels) == 0:
		return nil, errors.New("TCB info: no levels")
	}
	t.FMSPC, t.PCEID = [6]byte(w.FMSPC), [2]byte(w.PCEID)
	for i, l := range w.Levels {
		level, err := l.platformLevel(t)
		if err != nil {
			return nil, fmt.Errorf("TCB info: level %d: %w", i, err)
		}
		t.Levels = append(t.Levels, level)
	}
	return t, t.readModules(w.Module, w.Modules)
}

func (t *tcbInfo) readModules(module *wireModule, modules []wireModule) (err error) {
	if t.ID != "TDX" {
		return nil
	}
	if module == nil {
		return errors.New("TCB info: tdxModule is missing")
	}
	if t.Module, err = module.parse(); err != nil {
		return fmt.Errorf("TCB info: tdxModule: %w", err)
	}
	for _, m := range modules {
		if t.Modules[m.ID] != nil {
			return fmt.Errorf("TCB info: module %.16q twice", m.ID)
		}
		if t.Modules[m.ID], err = m.parse(); err != nil {
			return fmt.Errorf("TCB info: module %.16q: %w", m.ID, err)
		}
	}
	return nil
}

func (w wireModule) parse() (*moduleIdentity, error) {
	if len(w.MRSigner) != 48 || len(w.Attributes) != 8 || len(w.AttributesMask) != 8 {
		return nil, errors.New("mrsigner, attributes or attributesMask has another size")
	}
	m := &moduleIdentity{MRSigner: w.MRSigner, Attributes: w.Attributes, AttributesMask: w.AttributesMask}
	var err error
	m.Levels, err = svnLevels(w.Levels)
	return m, err
}

// platformLevel reads a level of either version of the structure.
func (w wireLevel) platformLevel(t *tcbInfo) (tcbLevel, error) {
	l := tcbLevel{Date: w.Date, Status: w.Status, Advisories: w.Advisories}
	if !slices.Contains(levelStatuses, w.Status) {
		return l, fmt.Errorf("status %.32q is not known", w.Status)
	}
	if t.Version == 2 {
		return l, l.readFlat(w.TCB)
	}
	var tcb struct {
		SGX    []wireComponent `json:"sgxtcbcomponents"`
		TDX    []wireComponent `json:"tdxtcbcomponents"`
		PCESVN *uint16         `json:"pcesvn"`
	}
	if err := json.Unmarshal(w.TCB, &tcb); err != nil {
		return l, err
	}
	if len(tcb.SGX) != 16 || tcb.PCESVN == nil || t.ID == "TDX" && len(tcb.TDX) != 16 {
		return l, errors.New("want 16 components and pcesvn")
	}
	l.PCESVN = *tcb.PCESVN
	for i := range tcb.SGX {
		l.SGX[i] = tcb.SGX[i].SVN
	}
	for i := range tcb.TDX[:min(16, len(tcb.TDX))] {
		l.TDX[i] = tcb.TDX[i].SVN
	}
	return l, nil
}

// readFlat reads the components of version 2: sgxtcbcomp01svn to 16, and pcesvn.
func (l *tcbLevel) readFlat(b []byte) error {
	var flat map[string]uint16
	if err := json.Unmarshal(b, &flat); err != nil {
		return err
	}
	for i := range l.SGX {
		svn, ok := flat[fmt.Sprintf("sgxtcbcomp%02dsvn", i+1)]
		if !ok || svn > 0xFF {
			return fmt.Errorf("component %d is missing or too large", i+1)
		}
		l.SGX[i] = uint8(svn)
	}
	var ok bool
	if l.PCESVN, ok = flat["pcesvn"]; !ok {
		return errors.New("pcesvn is missing")
	}
	return nil
}

// svnLevels reads the levels of an enclave or a module.
func svnLevels(wire []wireLevel) ([]svnLevel, error) {
	levels := make([]svnLevel, len(wire))
	for i, w := range wire {
		var tcb struct {
			ISVSVN *uint16 `json:"isvsvn"`
		}
		if err := json.Unmarshal(w.TCB, &tcb); err != nil || tcb.ISVSVN == nil {
			return nil, fmt.Errorf("level %d: want isvsvn", i)
		}
		if !slices.Contains(levelStatuses, w.Status) {
			return nil, fmt.Errorf("level %d: status %.32q is not known", i, w.Status)
		}
		levels[i] = svnLevel{ISVSVN: *tcb.ISVSVN, Date: w.Date, Status: w.Status, Advisories: w.Advisories}
	}
	return levels, nil
}

// enclaveIdentity is the quoting enclave that Intel names (PCS API, "Get
// Quoting Enclave Identity", version 2 of the structure).
type enclaveIdentity struct {
	period
	ID               string // "QE" or "TD_QE"
	EvaluationNumber int
	MiscSelect       []byte // 4 bytes, in the order of a report
	MiscSelectMask   []byte // 4 bytes
	Attributes       []byte // 16 bytes
	AttributesMask   []byte // 16 bytes
	MRSigner         []byte // 32 bytes
	ISVProdID        uint16
	Levels           []svnLevel
}

func parseIdentity(b []byte) (*enclaveIdentity, error) {
	var w struct {
		period
		ID               string      `json:"id"`
		Version          int         `json:"version"`
		EvaluationNumber int         `json:"tcbEvaluationDataNumber"`
		MiscSelect       hexBytes    `json:"miscselect"`
		MiscSelectMask   hexBytes    `json:"miscselectMask"`
		Attributes       hexBytes    `json:"attributes"`
		AttributesMask   hexBytes    `json:"attributesMask"`
		MRSigner         hexBytes    `json:"mrsigner"`
		ISVProdID        *uint16     `json:"isvprodid"`
		Levels           []wireLevel `json:"tcbLevels"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Version != 2:
		return nil, fmt.Errorf("enclave identity of version %d: want 2", w.Version)
	case len(w.MiscSelect) != 4 || len(w.MiscSelectMask) != 4 || len(w.Attributes) != 16 || len(w.AttributesMask) != 16 || len(w.MRSigner) != 32 || w.ISVProdID == nil:
		return nil, errors.New("enclave identity: miscselect, attributes, their masks, mrsigner or isvprodid is missing or has another size")
	case w.IssueDate.IsZero() || w.NextUpdate.IsZero() || len(w.Levels) == 0:
		return nil, errors.New("enclave identity: issueDate, nextUpdate or tcbLevels is missing")
	}
	levels, err := svnLevels(w.Levels)
	if err != nil {
		return nil, fmt.Errorf("enclave identity: %w", err)
	}
	e := &enclaveIdentity{
		period: w.period, ID: w.ID, EvaluationNumber: w.EvaluationNumber, MiscSelect: w.MiscSelect, MiscSelectMask: w.MiscSelectMask,
		Attributes: w.Attributes, AttributesMask: w.AttributesMask, MRSigner: w.MRSigner, ISVProdID: *w.ISVProdID, Levels: levels,
	}
	return e, nil
}

// day is the date of a level as a claim.
func day(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return ""
	}
	return stamp(t)
}
