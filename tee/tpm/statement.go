package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/fxamacker/cbor/v2"
)

// Statement is what evidence of a TPM consists of. Nothing in it is true until
// [Verifier.Verify] said so.
type Statement struct {
	Quote         []byte // TPMS_ATTEST
	Signature     []byte // TPMT_SIGNATURE over it
	PCRs          Banks  // the values that are quoted
	AKPublic      []byte // TPMT_PUBLIC of the attestation key; nil if the certificate is given
	AKCertificate []byte // DER; nil if there is none
	// EventLog and Certificates are what other formats carry inside; ours has them
	// beside it, in tee.Evidence.
	EventLog     []byte
	Certificates [][]byte
}

// statement is the form on the wire.
type statement struct {
	PCRs          map[uint16]map[uint32][]byte `cbor:"pcrs"`
	Quote         []byte                       `cbor:"quote"`
	AKCertificate []byte                       `cbor:"ak_cert,omitempty"`
	AKPublic      []byte                       `cbor:"ak_public,omitempty"`
	Signature     []byte                       `cbor:"signature"`
}

// modes are the two CBOR modes of this package, made once.
var modes = sync.OnceValue(func() (m struct {
	enc cbor.EncMode
	dec cbor.DecMode
}) {
	var err error
	if m.enc, err = cbor.CoreDetEncOptions().EncMode(); err != nil {
		panic(err) // constant options
	}
	m.dec, err = cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       maxPCR + 1,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

// encode returns the one deterministic form.
func (w *statement) encode() ([]byte, error) { return modes().enc.Marshal(w) }

// Encode returns Evidence.Data in our own format. PCRs that the quote does not
// select make it no evidence: leave them out ([Quote.Selections]). EventLog and
// Certificates are not part of it.
func (s *Statement) Encode() ([]byte, error) {
	w := &statement{Quote: s.Quote, Signature: s.Signature, AKPublic: s.AKPublic, AKCertificate: s.AKCertificate, PCRs: make(map[uint16]map[uint32][]byte)}
	for a, bank := range s.PCRs {
		w.PCRs[uint16(a)] = bank
	}
	b, err := w.encode()
	if err != nil {
		return nil, &tee.Error{Code: tee.CodeParse, Op: "encode TPM evidence", Err: err}
	}
	return b, nil
}

// isStatement recognises our format: a map of three to five whose first name, in
// deterministic order, is pcrs.
func isStatement(b []byte) bool {
	return len(b) > 6 && b[0] >= 0xA3 && b[0] <= 0xA5 && string(b[1:6]) == "\x64pcrs"
}

// ParseStatement reads evidence in any of the three formats. Errors are
// *tee.VerifyError: CodeParse, and CodeUnknownFormat when it is none of them.
func ParseStatement(b []byte) (*Statement, error) {
	switch {
	case len(b) > tee.MaxEvidence:
		return nil, tee.Refuse(tee.TPM, tee.CodeParse, "evidence", fmt.Sprintf("at most %d bytes", tee.MaxEvidence), fmt.Sprint(len(b)), "")
	case isStatement(b):
		return parseOwn(b)
	case isProtobuf(b):
		return parseProtobuf(b)
	case isDump(b):
		return parseDump(b)
	}
	return nil, tee.Refuse(tee.TPM, tee.CodeUnknownFormat, "evidence", "CBOR of cloister, protobuf of go-tpm-tools or JSON of go-attestation", "other bytes", "")
}

func parseOwn(b []byte) (*Statement, error) {
	var w statement
	if err := modes().dec.Unmarshal(b, &w); err != nil {
		return nil, malformed("evidence", "a CBOR map of a TPM statement", err)
	}
	again, err := w.encode()
	if err != nil || !bytes.Equal(again, b) {
		return nil, malformed("evidence", "deterministic CBOR", errors.New("another way to write it"))
	}
	s := &Statement{Quote: w.Quote, Signature: w.Signature, AKPublic: w.AKPublic, AKCertificate: w.AKCertificate, PCRs: make(Banks, len(w.PCRs))}
	for a, bank := range w.PCRs {
		s.PCRs[eventlog.Algorithm(a)] = bank
	}
	if err := s.onlyQuoted(); err != nil {
		return nil, err
	}
	return s, nil
}

// onlyQuoted refuses values that no quote covers: our format has no place for
// bytes that prove nothing. A quote that cannot be read is for others to refuse.
func (s *Statement) onlyQuoted() error {
	q, err := ParseQuote(s.Quote)
	if err != nil {
		return err
	}
	quoted, given := 0, 0
	for _, sel := range q.Selections {
		quoted += len(sel.Indices)
		for _, i := range sel.Indices {
			if s.PCRs[sel.Algorithm][i] == nil {
				return nil // is missing, which CheckQuote says better
			}
		}
	}
	for _, bank := range s.PCRs {
		given += len(bank)
		if len(bank) == 0 {
			given = -1 << 20 // an empty bank is one more way to write it
		}
	}
	if given != quoted {
		return malformed("pcrs", "the quoted ones and no others", errors.New("PCRs that are not quoted"))
	}
	return nil
}
