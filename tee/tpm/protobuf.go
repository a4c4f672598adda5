package tpm

import (
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Fields of go-tpm-tools' messages (proto/attest/attest.proto, proto/tpm/tpm.proto).
const (
	fieldAKPublic      = 1 // of Attestation
	fieldQuotes        = 2
	fieldEventLog      = 3
	fieldAKCertificate = 6
	fieldIntermediates = 7
	fieldQuote         = 1 // of Quote
	fieldSignature     = 2
	fieldPCRs          = 3
	fieldHash          = 1 // of PCRs
	fieldValues        = 2
	fieldKey           = 1 // of an entry of PCRs.pcrs
	fieldValue         = 2
)

// isProtobuf recognises a message Attestation: its first field is the public area
// of an RSA or ECC key. Writers put fields in their order.
func isProtobuf(b []byte) bool {
	p := protobuf{b: b}
	field, _, v := p.next()
	return p.err == nil && field == fieldAKPublic && len(v) > 8 && v[0] == 0 && (v[1] == algRSA || v[1] == algECC) && v[2] == 0
}

// protobuf is the one reader of protobuf wire format: varints and byte fields.
type protobuf struct {
	b   []byte
	err error
}

func (p *protobuf) fail(err error) {
	p.err, p.b = err, nil
}

func (p *protobuf) varint() uint64 {
	var v uint64
	for i := 0; i < 10 && i < len(p.b); i++ {
		c := p.b[i]
		v |= uint64(c&0x7F) << (7 * i)
		if c < 0x80 {
			if i == 9 && c > 1 {
				break
			}
			p.b = p.b[i+1:]
			return v
		}
	}
	p.fail(errors.New("not a number"))
	return 0
}

// next reads one field: its number, and its value as a number or as bytes.
func (p *protobuf) next() (field, number uint64, v []byte) {
	tag := p.varint()
	switch tag & 7 {
	case 0:
		return tag >> 3, p.varint(), nil
	case 2:
		n := p.varint()
		if n > uint64(len(p.b)) {
			p.fail(errors.New("truncated"))
			return 0, 0, nil
		}
		v, p.b = p.b[:n:n], p.b[n:]
		return tag >> 3, 0, v
	default: // groups and fixed numbers: no message here has them
		if p.err == nil {
			p.fail(fmt.Errorf("wire type %d", tag&7))
		}
		return 0, 0, nil
	}
}

// once keeps the value of a field that may come once. A second one would mean one
// thing here and another elsewhere.
func (p *protobuf) once(dst *[]byte, v []byte) {
	if *dst != nil {
		p.fail(errors.New("a field comes twice"))
	}
	*dst = v
	if v == nil {
		*dst = []byte{}
	}
}

// quoteMessage is one of the quotes, each over the PCRs of one bank.
type quoteMessage struct {
	quote, signature []byte
	algorithm        eventlog.Algorithm
	values           map[uint32][]byte
}

func parseProtobuf(b []byte) (*Statement, error) {
	s := &Statement{}
	p := protobuf{b: b}
	var quotes []*quoteMessage
	for len(p.b) > 0 {
		field, _, v := p.next()
		switch field {
		case fieldAKPublic:
			p.once(&s.AKPublic, v)
		case fieldQuotes:
			q, err := parseQuoteMessage(v)
			if err != nil {
				return nil, malformed("quotes", "a message Quote", err)
			}
			quotes = append(quotes, q)
		case fieldEventLog:
			p.once(&s.EventLog, v)
		case fieldAKCertificate:
			p.once(&s.AKCertificate, v)
		case fieldIntermediates:
			s.Certificates = append(s.Certificates, v)
		}
		if len(quotes) > maxQuotes || len(s.Certificates) > maxCertificates {
			p.fail(errors.New("too many quotes or certificates"))
		}
	}
	if p.err != nil {
		return nil, malformed("evidence", "a message Attestation", p.err)
	}
	best := bestQuote(quotes)
	if best == nil {
		return nil, tee.Refuse(tee.TPM, tee.CodeParse, "quotes", "at least one", "none", "")
	}
	s.Quote, s.Signature, s.PCRs = best.quote, best.signature, Banks{best.algorithm: best.values}
	return s, nil
}

// bestQuote is the first quote of the best bank: SHA-256, which every TPM has,
// then the longer ones, and SHA-1 only when there is nothing else.
func bestQuote(quotes []*quoteMessage) *quoteMessage {
	for _, a := range bankOrder() {
		for _, q := range quotes {
			if q.algorithm == a {
				return q
			}
		}
	}
	return nil
}

// bankOrder is in which order banks are preferred.
func bankOrder() []eventlog.Algorithm {
	return []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384, eventlog.SHA512, eventlog.SHA1}
}

func parseQuoteMessage(b []byte) (*quoteMessage, error) {
	q := &quoteMessage{values: make(map[uint32][]byte)}
	var pcrs []byte
	p := protobuf{b: b}
	for len(p.b) > 0 {
		switch field, _, v := p.next(); field {
		case fieldQuote:
			p.once(&q.quote, v)
		case fieldSignature:
			p.once(&q.signature, v)
		case fieldPCRs:
			p.once(&pcrs, v)
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return q, q.parsePCRs(pcrs)
}

func (q *quoteMessage) parsePCRs(b []byte) error {
	p := protobuf{b: b}
	for len(p.b) > 0 {
		switch field, number, v := p.next(); field {
		case fieldHash:
			if number > 0xFFFF || q.algorithm != 0 {
				return errors.New("hash is none, or given twice")
			}
			q.algorithm = eventlog.Algorithm(number)
		case fieldValues:
			if err := q.parseEntry(v); err != nil {
				return err
			}
		}
	}
	return p.err
}

// parseEntry reads an entry of a map, which is a message with a key and a value.
// A key that is not there is 0.
func (q *quoteMessage) parseEntry(b []byte) error {
	var index uint64
	var value []byte
	p := protobuf{b: b}
	for len(p.b) > 0 {
		switch field, number, v := p.next(); field {
		case fieldKey:
			index = number
		case fieldValue:
			p.once(&value, v)
		}
	}
	if p.err != nil {
		return p.err
	}
	if _, twice := q.values[uint32(index)]; index > maxPCR || twice {
		return fmt.Errorf("PCR %d is none, or given twice", index)
	}
	q.values[uint32(index)] = value
	return nil
}
