package azure

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Bounds of an envelope.
const (
	maxPCRs         = 24
	maxCertificates = 8
)

// Envelope is what evidence of an Azure VM consists of. Nothing in it is true until
// a [Verifier] said so.
type Envelope struct {
	HCLReport []byte   // the paravisor's report
	Message   []byte   // TPMS_ATTEST of the vTPM's quote
	Signature []byte   // over it: bare RSASSA with SHA-256
	PCRs      [][]byte // of the SHA-256 bank, from 0
	VCEK      [][]byte // SEV-SNP: the certificate in DER, and more of the chain
	TDQuote   []byte   // TDX
}

// wire is the form of an envelope, in both spellings.
type wire struct {
	Version   any        `json:"version,omitempty"` // of the guest software; ignored
	HCLReport blob       `json:"hcl_report,omitempty"`
	Report    blob       `json:"report,omitempty"`
	TPMQuote  *wireQuote `json:"tpm_quote,omitempty"`
	Quote     *wireQuote `json:"quote,omitempty"`
	VCEK      *string    `json:"vcek,omitempty"`
	TDQuote   blob       `json:"td_quote,omitempty"`
}

type wireQuote struct {
	Message   blob   `json:"message"`
	Signature blob   `json:"signature"`
	PCRs      []blob `json:"pcrs"`
}

// blob is bytes in JSON: an array of integers, hex or base64url.
type blob []byte

// UnmarshalJSON reads any of the three. What is hex and also base64url is hex.
func (b *blob) UnmarshalJSON(v []byte) error {
	if len(v) > 0 && v[0] == '[' {
		return b.readArray(v)
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return errors.New("neither a text nor an array of bytes")
	}
	out, err := hex.DecodeString(s)
	if err != nil {
		out, err = decodeBase64URL(s)
	}
	*b = out
	return err
}

func decodeBase64URL(s string) ([]byte, error) {
	out, err := base64.RawURLEncoding.Strict().DecodeString(string(bytes.TrimRight([]byte(s), "=")))
	if err != nil {
		return nil, errors.New("a text that is neither hex nor base64url")
	}
	return out, nil
}

// readArray reads "[1, 2, 255]". It is well-formed JSON already.
func (b *blob) readArray(v []byte) error {
	out := make([]byte, 0, len(v)/3)
	for item := range bytes.SplitSeq(v[1:len(v)-1], []byte{','}) {
		item = bytes.TrimSpace(item)
		n := 0
		for _, c := range item {
			if c < '0' || c > '9' || n > 255 {
				return errors.New("an array of something else than bytes")
			}
			n = 10*n + int(c-'0')
		}
		if n > 255 || len(item) == 0 && len(v) > 2 {
			return errors.New("an array of something else than bytes")
		}
		if len(item) > 0 {
			out = append(out, byte(n))
		}
	}
	*b = out
	return nil
}

// MarshalJSON writes base64url, or hex where base64url could be read as hex.
func (b blob) MarshalJSON() ([]byte, error) {
	s := base64.RawURLEncoding.EncodeToString(b)
	if _, err := hex.DecodeString(s); err == nil {
		s = hex.EncodeToString(b)
	}
	return json.Marshal(s)
}

// Encode returns Evidence.Data in the compact form.
func (e *Envelope) Encode() ([]byte, error) {
	w := wire{HCLReport: e.HCLReport, TDQuote: e.TDQuote, TPMQuote: &wireQuote{Message: e.Message, Signature: e.Signature, PCRs: make([]blob, len(e.PCRs))}}
	for i, p := range e.PCRs {
		w.TPMQuote.PCRs[i] = p
	}
	if len(e.VCEK) > 0 {
		var text []byte
		for _, der := range e.VCEK {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		s := string(text)
		if len(e.VCEK) == 1 {
			s = base64.RawURLEncoding.EncodeToString(e.VCEK[0])
		}
		w.VCEK = &s
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeParse, Op: "encode Azure evidence", Err: err}
	}
	return b, nil
}

// ParseEnvelope reads either form. It refuses other names and both spellings of
// one at once. Errors are *tee.VerifyError of the given kind with CodeParse.
func ParseEnvelope(kind tee.Kind, b []byte) (*Envelope, error) {
	bad := func(want, got string) (*Envelope, error) {
		return nil, tee.Refuse(kind, tee.CodeParse, "evidence", want, got, "")
	}
	if len(b) > tee.MaxEvidence {
		return bad(fmt.Sprintf("at most %d bytes", tee.MaxEvidence), fmt.Sprint(len(b)))
	}
	var w wire
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil || len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
		return bad("JSON of an Azure VM's evidence", fmt.Sprintf("%.200q", fmt.Sprint(err)))
	}
	if (w.HCLReport == nil) == (w.Report == nil) || (w.TPMQuote == nil) == (w.Quote == nil) {
		return bad("one hcl_report (or report) and one tpm_quote (or quote)", "another number of them")
	}
	quote := w.TPMQuote
	if quote == nil {
		quote = w.Quote
	}
	e := &Envelope{HCLReport: slices.Concat(w.HCLReport, w.Report), Message: quote.Message, Signature: quote.Signature, TDQuote: w.TDQuote}
	if len(quote.PCRs) > maxPCRs {
		return bad(fmt.Sprintf("at most %d PCRs", maxPCRs), fmt.Sprint(len(quote.PCRs)))
	}
	for _, p := range quote.PCRs {
		e.PCRs = append(e.PCRs, p)
	}
	if w.VCEK != nil {
		var err error
		if e.VCEK, err = parseCertificates(*w.VCEK); err != nil {
			return bad("a VCEK in PEM or base64url", fmt.Sprintf("%.100s", err.Error()))
		}
	}
	return e, nil
}

// parseCertificates reads PEM, or one certificate in base64url.
func parseCertificates(s string) ([][]byte, error) {
	b := []byte(s)
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		der, err := decodeBase64URL(s)
		return [][]byte{der}, err
	}
	var out [][]byte
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(out) == maxCertificates {
			return nil, fmt.Errorf("block %.32q, or more than %d", block.Type, maxCertificates)
		}
		out, b = append(out, block.Bytes), rest
	}
	if len(bytes.TrimSpace(b)) > 0 {
		return nil, errors.New("bytes that are no PEM")
	}
	return out, nil
}

// banks are the PCRs as package tpm takes them.
func (e *Envelope) banks() tpm.Banks {
	bank := make(map[uint32][]byte, len(e.PCRs))
	for i, v := range e.PCRs {
		bank[uint32(i)] = v
	}
	return tpm.Banks{eventlog.SHA256: bank}
}
