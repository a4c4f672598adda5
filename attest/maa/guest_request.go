package maa

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
)

// guestProtocol is the version of the guests' protocol that is spoken here.
const guestProtocol = "2.0"

// Bounds of what a guest says.
const (
	maxGuestText    = 256      // bytes of a name or number of its system
	maxGuestPayload = 16 << 10 // bytes of JSON that it wants in its token
	guestPCRs       = 24       // registers of a PC
)

// wireGuest is what a guest says, in AttestationInfo, but for ClientPayload. Texts
// are base64 where nothing else is said.
type wireGuest struct {
	Version   string          `json:"AttestationProtocolVersion"` // plain
	OSType    string          `json:"OSType"`
	OSDistro  string          `json:"OSDistro"`
	OSBuild   string          `json:"OSBuild"`
	OSMajor   json.RawMessage `json:"OSVersionMajor"` // a number, or a plain text
	OSMinor   json.RawMessage `json:"OSVersionMinor"`
	TCGLogs   string          `json:"TcgLogs"`
	TPM       wireGuestTPM    `json:"TpmInfo"`
	Isolation struct {
		Type     string `json:"Type"` // plain
		Evidence struct {
			Proof       string `json:"Proof"`
			RuntimeData string `json:"RunTimeData"`
		} `json:"Evidence"`
	} `json:"IsolationInfo"`
}

// wireGuestTPM is what a guest says of its TPM.
type wireGuestTPM struct {
	AKCertificate    string   `json:"AikCert"`
	AKPublic         string   `json:"AikPub"` // TPM2B_PUBLIC, or a response to TPM2_ReadPublic
	Quote            string   `json:"PcrQuote"`
	QuoteSignature   string   `json:"PcrSignature"`
	Key              string   `json:"EncKeyPub"` // TPM2B_PUBLIC
	Certification    string   `json:"EncKeyCertifyInfo"`
	CertifySignature string   `json:"EncKeyCertifyInfoSignature"`
	PCRSet           []uint32 `json:"PcrSet"`
	PCRs             []struct {
		Index  uint32 `json:"Index"`
		Digest string `json:"Digest"`
	} `json:"PCRs"`
}

// guest is a request for a guest's token that was read.
type guest struct {
	tee.Evidence
	runtimeData                     []byte // of the paravisor
	report                          []byte // of SEV-SNP; nil for TDX
	quote, akPublic                 []byte
	key, certification, certifiedBy []byte
	pcrs                            []uint32 // whose values were given, in ascending order
	payload                         json.RawMessage
	system                          map[string]any // claims that it makes of its operating system
	to                              *rsa.PublicKey // what the token is encrypted to, once the key was checked
}

// readGuest reads the body of a call for AzureGuest.
func readGuest(b []byte) (*guest, error) {
	var w struct {
		Info      string `json:"AttestationInfo"` // as the library writes it
		Specified string `json:"attestationInfo"` // as the REST specification does
	}
	if err := attest.DecodeExact(b, &w, "AttestationInfo", "attestationInfo"); err != nil {
		return nil, badRequest("the body is not the JSON of this attestation type", err.Error())
	}
	if w.Info != "" && w.Specified != "" {
		return nil, badRequest("AttestationInfo and attestationInfo: want one of them", "")
	}
	info, err := azurepolicy.DecodeBase64(w.Info + w.Specified)
	if err != nil {
		return nil, badRequest("AttestationInfo: want base64url of JSON", "")
	}
	said, payload, err := decodeGuest(info)
	if err != nil {
		return nil, badRequest("AttestationInfo: want base64url of what guests of protocol "+guestProtocol+" say", err.Error())
	}
	if said.Version != guestProtocol {
		return nil, badRequest("AttestationProtocolVersion: want "+guestProtocol, "")
	}
	g := &guest{payload: payload}
	if g.system, err = said.system(); err != nil {
		return nil, err
	}
	if err := g.readEvidence(said); err != nil {
		return nil, err
	}
	return g, nil
}

// decodeGuest reads what a guest says. Names in its payload are its own, all
// others have to be known: one may ask for a check that nobody would make.
func decodeGuest(b []byte) (*wireGuest, json.RawMessage, error) {
	if err := attest.CheckJSONObject(b); err != nil {
		return nil, nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, nil, err
	}
	payload := members["ClientPayload"]
	delete(members, "ClientPayload")
	if payload == nil || string(payload) == "null" {
		payload = json.RawMessage("{}")
	}
	if payload[0] != '{' || len(payload) > maxGuestPayload {
		return nil, nil, fmt.Errorf("ClientPayload: want an object of at most %d bytes", maxGuestPayload)
	}
	rest, err := json.Marshal(members)
	if err != nil {
		return nil, nil, err
	}
	w := new(wireGuest)
	err = attest.DecodeExact(rest, w, "AttestationProtocolVersion", "OSType", "OSDistro", "OSBuild", "OSVersionMajor", "OSVersionMinor", "TcgLogs",
		"TpmInfo", "AikCert", "AikPub", "PcrQuote", "PcrSignature", "EncKeyPub", "EncKeyCertifyInfo", "EncKeyCertifyInfoSignature", "PcrSet", "PCRs", "Index", "Digest",
		"IsolationInfo", "Type", "Evidence", "Proof", "RunTimeData")
	return w, payload, err
}

// system are the claims that a guest makes of its operating system. Nothing proves
// them.
func (w *wireGuest) system() (map[string]any, error) {
	claims := map[string]any{}
	for _, m := range []struct{ member, claim, value string }{
		{"OSType", "x-ms-azurevm-ostype", w.OSType}, {"OSDistro", "x-ms-azurevm-osdistro", w.OSDistro}, {"OSBuild", "x-ms-azurevm-osbuild", w.OSBuild},
	} {
		b, err := azurepolicy.DecodeBase64(m.value)
		if err != nil || len(b) > maxGuestText || !utf8.Valid(b) {
			return nil, badRequest(fmt.Sprintf("%s: want base64 of text of at most %d bytes", m.member, maxGuestText), "")
		}
		claims[m.claim] = string(b)
	}
	for _, m := range []struct {
		member, claim string
		value         json.RawMessage
	}{{"OSVersionMajor", "x-ms-azurevm-osversion-major", w.OSMajor}, {"OSVersionMinor", "x-ms-azurevm-osversion-minor", w.OSMinor}} {
		v, err := guestNumber(m.value)
		if err != nil {
			return nil, badRequest(m.member+": "+err.Error(), "")
		}
		claims[m.claim] = v
	}
	claims["x-ms-azurevm-is-windows"] = claims["x-ms-azurevm-ostype"] == "Windows"
	return claims, nil
}

// guestNumber reads a part of a version: a number, or text that mostly is one
// ("04", "19.1").
func guestNumber(raw json.RawMessage) (any, error) {
	text := string(raw)
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) != nil || len(text) > maxGuestText {
		return nil, errors.New("want a number, or a text of at most 256 bytes")
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return n, nil
	}
	if len(raw) == 0 || raw[0] != '"' {
		return nil, errors.New("want a number of 32 bits, or a text")
	}
	return text, nil
}

// readEvidence puts the evidence of a VM together, as package azure reads it. The
// certificate of the attestation key is not looked at, and says nothing more: the
// hardware vouches for the paravisor, and that for the key.
func (g *guest) readEvidence(w *wireGuest) error {
	d := guestDecoder{}
	d.optional("TpmInfo.AikCert", w.TPM.AKCertificate)
	g.akPublic = d.bytes("TpmInfo.AikPub", w.TPM.AKPublic)
	g.quote = d.bytes("TpmInfo.PcrQuote", w.TPM.Quote)
	signature := d.bytes("TpmInfo.PcrSignature", w.TPM.QuoteSignature)
	g.key = d.bytes("TpmInfo.EncKeyPub", w.TPM.Key)
	g.certification = d.bytes("TpmInfo.EncKeyCertifyInfo", w.TPM.Certification)
	g.certifiedBy = d.bytes("TpmInfo.EncKeyCertifyInfoSignature", w.TPM.CertifySignature)
	e := azure.Envelope{Message: g.quote, Signature: signature, PCRs: g.readPCRs(&d, &w.TPM)}
	if d.err != nil {
		return d.err
	}
	var err error
	if err = g.readIsolation(&d, w, &e); err != nil {
		return err
	}
	g.EventLog = d.optional("TcgLogs", w.TCGLogs)
	if d.err != nil {
		return d.err
	}
	g.Data, err = e.Encode()
	return err
}

// readPCRs reads the values of registers, which have to be those of PcrSet.
func (g *guest) readPCRs(d *guestDecoder, w *wireGuestTPM) [][]byte {
	values := make([][]byte, guestPCRs)
	for _, p := range w.PCRs {
		if p.Index >= guestPCRs || len(g.pcrs) > 0 && p.Index <= g.pcrs[len(g.pcrs)-1] {
			d.fail("TpmInfo.PCRs: want registers below " + strconv.Itoa(guestPCRs) + ", each once, in ascending order")
			return nil
		}
		values[p.Index] = d.bytes("TpmInfo.PCRs.Digest", p.Digest)
		g.pcrs = append(g.pcrs, p.Index)
	}
	if !slices.Equal(w.PCRSet, g.pcrs) {
		d.fail("TpmInfo.PcrSet: want the registers of PCRs in their order")
	}
	return values
}

// readIsolation reads the hardware's evidence.
func (g *guest) readIsolation(d *guestDecoder, w *wireGuest, e *azure.Envelope) error {
	switch w.Isolation.Type {
	case "SevSnp":
		g.Kind = tee.AzureSNP
	case "Tdx":
		g.Kind = tee.AzureTDX
	case "TrustedLaunch":
		return badRequest("IsolationInfo.Type: TrustedLaunch VMs are not attested: nothing that their hardware signs vouches for their TPM", "want SevSnp or Tdx")
	default:
		return badRequest("IsolationInfo.Type: want SevSnp or Tdx", "")
	}
	proof := d.bytes("IsolationInfo.Evidence.Proof", w.Isolation.Evidence.Proof)
	g.runtimeData = d.bytes("IsolationInfo.Evidence.RunTimeData", w.Isolation.Evidence.RuntimeData)
	if d.err != nil {
		return d.err
	}
	if attest.CheckJSONObject(g.runtimeData) != nil { // it goes into the token
		return badRequest("IsolationInfo.Evidence.RunTimeData: want one JSON object with each member once", "")
	}
	if g.Kind == tee.AzureTDX {
		e.TDQuote = proof
	} else {
		ev, endorsements, err := snpEvidence(proof)
		if err != nil {
			return err
		}
		if endorsements != nil {
			return badRequest("IsolationInfo.Evidence.Proof: Endorsements are of utility VMs, and this is none", "")
		}
		g.report, g.Certificates = ev.Data, ev.Certificates
	}
	var err error
	e.HCLReport, err = azure.BuildReport(g.Kind, g.report, g.runtimeData)
	return err
}

// guestDecoder decodes base64 and keeps the first error.
type guestDecoder struct{ err error }

func (d *guestDecoder) fail(message string) {
	if d.err == nil {
		d.err = badRequest(message, "")
	}
}

func (d *guestDecoder) bytes(member, text string) []byte {
	b := d.optional(member, text)
	if len(b) == 0 {
		d.fail(member + ": is missing")
	}
	return b
}

func (d *guestDecoder) optional(member, text string) []byte {
	b, err := azurepolicy.DecodeBase64(text)
	if err != nil {
		d.fail(member + ": want base64")
	}
	return b
}
