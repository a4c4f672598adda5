package maa

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
)

// wireRequest is the body of an attest call. Which members there can be depends
// on the attestation type. Members that are not here are refused: one may ask for
// a check that nobody would make.
type wireRequest struct {
	quote, report             string
	runtimeData, initTimeData *wireData
	draft                     *string
	nonce                     json.RawMessage
}

// readWire reads the members of a body.
func readWire(b []byte) (w wireRequest, err error) {
	members, err := attest.SplitObject(b, "quote", "report", "runtimeData", "initTimeData", "draftPolicyForAttestation", "nonce")
	if err != nil {
		return w, err
	}
	text := func(name string) (s string) {
		if raw := members[name]; raw != nil && err == nil {
			if s, err = attest.Text(raw); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		return s
	}
	data := func(name string) (d *wireData) {
		if raw := members[name]; raw != nil && err == nil {
			if err = attest.DecodeExact(raw, &d, "data", "dataType"); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		return d
	}
	w = wireRequest{quote: text("quote"), report: text("report"), runtimeData: data("runtimeData"), initTimeData: data("initTimeData"), nonce: members["nonce"]}
	if raw := members["draftPolicyForAttestation"]; raw != nil && string(raw) != "null" {
		draft := text("draftPolicyForAttestation")
		w.draft = &draft
	}
	return w, err
}

// wireData is data that the evidence vouches for.
type wireData struct {
	Data string `json:"data"`
	Type string `json:"dataType"`
}

// attestRequest is an attest call that was read.
type attestRequest struct {
	evidence
	draft *string
	nonce string
}

// evidence is the evidence of a call with the data that it is to vouch for. Data
// is Binary or JSON, so one of each two is nil.
type evidence struct {
	tee.Evidence
	bound                     []byte // the bytes whose digest is in the report data; nil for none
	runtime, runtimeJSON      []byte
	launched                  []byte // the bytes whose digest was given at launch
	initTimeJSON              []byte
	hasRuntime, hasLaunchData bool
	uvms                      [][]byte       // endorsements of a utility VM
	uvm                       *refvalues.UVM // what one of them says; nil until it was checked
}

// maxNonce bounds a nonce that is repeated in the token, in bytes.
const maxNonce = 1024

// readRequest reads the body of an attest call.
func readRequest(typ string, b []byte) (*attestRequest, error) {
	w, err := readWire(b)
	if err != nil {
		return nil, badRequest("the body is not the JSON of this attestation type", err.Error())
	}
	q := &attestRequest{draft: w.draft}
	if q.Evidence, q.uvms, err = w.evidence(typ); err != nil {
		return nil, err
	}
	if q.nonce, err = readNonce(w.nonce); err != nil {
		return nil, err
	}
	if w.runtimeData != nil {
		data, isJSON, err := w.runtimeData.read("runtimeData")
		if err != nil {
			return nil, err
		}
		q.bound, q.hasRuntime = data, true
		if isJSON {
			q.runtimeJSON = data
		} else {
			q.runtime = data
		}
	}
	if w.initTimeData != nil {
		data, isJSON, err := w.initTimeData.read("initTimeData")
		if err != nil {
			return nil, err
		}
		q.launched, q.hasLaunchData = data, true
		if isJSON {
			q.initTimeJSON = data
		}
	}
	return q, nil
}

// evidence reads evidence, and the endorsements that came with it.
func (w wireRequest) evidence(typ string) (tee.Evidence, [][]byte, error) {
	member, text, other := "quote", w.quote, w.report
	if typ == "OpenEnclave" || typ == "SevSnpVm" {
		member, text, other = "report", w.report, w.quote
	}
	if other != "" {
		return tee.Evidence{}, nil, badRequest("this attestation type has the member "+member+" and not the other", "")
	}
	data, err := azurepolicy.DecodeBase64(text)
	if err != nil || len(data) == 0 {
		return tee.Evidence{}, nil, badRequest(member+": want base64url of the evidence", "")
	}
	if typ == "SevSnpVm" {
		return snpEvidence(data)
	}
	return tee.Evidence{Kind: attestationTypes()[typ], Data: data}, nil, nil
}

// snpEvidence reads the JSON that stands in the member report of SevSnpVm: a report
// with its certificates, and endorsements of the utility VM that it may be of.
func snpEvidence(b []byte) (tee.Evidence, [][]byte, error) {
	members, err := attest.SplitObject(b, "SnpReport", "VcekCertChain", "Endorsements")
	texts := map[string]string{}
	for name, raw := range members {
		if err == nil {
			texts[name], err = attest.Text(raw)
		}
	}
	if err != nil {
		return tee.Evidence{}, nil, badRequest("report: want base64url of JSON with SnpReport and VcekCertChain", err.Error())
	}
	uvms, err := readUVMs(texts["Endorsements"])
	if err != nil {
		return tee.Evidence{}, nil, err
	}
	report, err := azurepolicy.DecodeBase64(texts["SnpReport"])
	if err != nil {
		return tee.Evidence{}, nil, badRequest("SnpReport: want base64url of the report", "")
	}
	chain, err := azurepolicy.DecodeBase64(texts["VcekCertChain"])
	if err != nil {
		return tee.Evidence{}, nil, badRequest("VcekCertChain: want base64url of certificates in PEM", "")
	}
	ev := tee.Evidence{Kind: tee.SNP, Data: report}
	for rest := bytes.TrimSpace(chain); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(ev.Certificates) == attest.MaxCertificates {
			return tee.Evidence{}, nil, badRequest("VcekCertChain: want at most "+strconv.Itoa(attest.MaxCertificates)+" certificates in PEM and nothing else", "")
		}
		ev.Certificates = append(ev.Certificates, block.Bytes)
		rest = bytes.TrimSpace(rest)
	}
	return ev, uvms, nil
}

// readNonce takes text, or a number, as some of Microsoft's clients send it.
func readNonce(raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && len(text) <= maxNonce {
		return text, nil
	}
	if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	return "", badRequest("nonce: want text of at most "+strconv.Itoa(maxNonce)+" bytes, or a number", "")
}

func (d wireData) read(member string) (data []byte, isJSON bool, err error) {
	data, err = azurepolicy.DecodeBase64(d.Data)
	if err != nil {
		return nil, false, badRequest(member+".data: want base64url", "")
	}
	switch strings.ToLower(d.Type) {
	case "binary":
		return data, false, nil
	case "json":
		if attest.CheckJSONObject(data) != nil {
			return nil, false, badRequest(member+".data: dataType is JSON, and it is not one object with each member once", "")
		}
		return data, true, nil
	}
	return nil, false, badRequest(member+".dataType: want Binary or JSON", "")
}

func (q *attestRequest) given() (tee.Evidence, attest.Binding) { return q.Evidence, q.binding() }

func (q *attestRequest) wrap(token string) (any, error) { return tokenAnswer{token}, nil }

func (q *attestRequest) decide(p *policy, v *attest.Verified) (map[string]any, time.Duration, error) {
	if err := complete(v); err != nil {
		return nil, 0, err
	}
	if err := q.checkLaunch(v.Claims); err != nil {
		return nil, 0, err
	}
	if err := q.checkUVM(v.Claims); err != nil {
		return nil, 0, err
	}
	return decide(p, v, q.nonce, q.evidence)
}

// binding is what the report data has to be: the SHA-256 of the runtime data in
// its first half. The other half is the attester's own, and a claim. Without
// runtime data Microsoft's service compares nothing, and so its tokens say nothing
// of freshness.
func (e evidence) binding() attest.Binding {
	if !e.hasRuntime {
		return attest.WithoutFreshness()
	}
	digest := sha256.Sum256(e.bound)
	return attest.BindBy(func(c tee.Claims) (want [64]byte) {
		copy(want[:], c.ReportData)
		copy(want[:], digest[:])
		return want
	})
}

// checkLaunch compares the data that was given at launch with the digest that the
// evidence has of it: its SHA-256, then zeros, in the field that each TEE has for
// that.
func (e evidence) checkLaunch(c tee.Claims) error {
	if !e.hasLaunchData {
		return nil
	}
	field := map[tee.Kind]string{tee.SGX: "config_id", tee.SNP: "host_data", tee.TDX: "mr_config_id"}[c.TEE]
	got, _ := c.Vendor[field].(string)
	digest := sha256.Sum256(e.launched)
	want := hex.EncodeToString(digest[:])
	if len(got) < len(want) || got != want+strings.Repeat("0", len(got)-len(want)) {
		return tee.Refuse(c.TEE, tee.CodeBinding, field, "the SHA-256 of initTimeData", "another", "the TEE was launched with other data")
	}
	return nil
}
