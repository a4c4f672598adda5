package azurepolicy

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of an envelope.
const (
	MaxEnvelope = 256 << 10 // bytes
	maxX5C      = 8         // certificates in a header
)

// ParseEnvelope opens the JWS (RFC 7515, compact form) in which a policy is sent
// to a service in isolated mode: {"AttestationPolicy": base64 of the text},
// signed, with the signer's certificate first in x5c. The public key of that
// certificate must be exactly that of one of the signers; signed is then true.
// Everything else is refused, also where signers is empty: a service that takes
// unsigned policies says so with [ParseOpenEnvelope].
//
// The certificates' dates and chains are not looked at: the signers are the
// trust anchors, and there is no clock here.
func ParseEnvelope(jws string, signers []*x509.Certificate) (text string, signed bool, err error) {
	m, err := OpenMessage(jws, signers)
	if err != nil {
		return "", false, err
	}
	text, err = m.policy()
	return text, err == nil, err
}

// Message is a JWS in which an administrator of a service sends a policy, a
// certificate, or, with an empty payload, the wish to reset a policy.
type Message struct {
	Payload []byte
	// Signer is the certificate whose key signed; nil for an unsigned message.
	Signer *x509.Certificate
}

// OpenMessage opens a message that one of the signers must have signed, by the
// rules of [ParseEnvelope].
func OpenMessage(jws string, signers []*x509.Certificate) (Message, error) {
	e, err := open(jws)
	if err != nil {
		return Message{}, err
	}
	if e.alg == algNone {
		return Message{}, refuse("it is not signed", "sign it with a policy signer's key")
	}
	trusted := slices.ContainsFunc(signers, func(c *x509.Certificate) bool { return sameKey(c, e.certificate) })
	if !trusted {
		return Message{}, refuse(fmt.Sprintf("none of the %d policy signers has the key of the certificate in x5c", len(signers)), "add the signer's certificate first")
	}
	return Message{Payload: e.raw, Signer: e.certificate}, e.verify()
}

// OpenAnyMessage opens a message that nobody, or anybody, signed: whose
// certificate it is, and whether it may send the message, is for the caller.
func OpenAnyMessage(jws string) (Message, error) {
	e, err := open(jws)
	if err != nil || e.alg == algNone {
		return Message{Payload: e.payload()}, err
	}
	return Message{Payload: e.raw, Signer: e.certificate}, e.verify()
}

// ParseOpenEnvelope opens an envelope for a service that takes any policy its
// administrator sends. Unsigned envelopes (alg none) have signed false. With
// signed true the signature is by the certificate that the envelope itself
// names, and so says nothing of who that is.
func ParseOpenEnvelope(jws string) (text string, signed bool, err error) {
	m, err := OpenAnyMessage(jws)
	if err != nil {
		return "", false, err
	}
	text, err = m.policy()
	return text, m.Signer != nil && err == nil, err
}

func refuse(reason, hint string) error {
	if hint != "" {
		reason += ": " + hint
	}
	return fmt.Errorf("%w: %s", ErrEnvelope, reason)
}

// envelope is an envelope whose form is right; its signature is not checked.
type envelope struct {
	raw         []byte // payload
	alg         string
	certificate *x509.Certificate // nil exactly when alg is none
	input       string            // what is signed
	signature   []byte
}

func open(jws string) (*envelope, error) {
	if len(jws) > MaxEnvelope {
		return nil, refuse(fmt.Sprintf("%d bytes, at most %d", len(jws), MaxEnvelope), "")
	}
	parts := strings.Split(strings.TrimSpace(jws), ".")
	if len(parts) != 3 {
		return nil, refuse("not a compact JWS of three parts", "send the policy as header.payload.signature, or as plain text")
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil || strings.ContainsAny(p, "\r\n") {
			return nil, refuse(fmt.Sprintf("part %d is not unpadded base64url", i+1), "")
		}
		raw[i] = b
	}
	e := &envelope{input: parts[0] + "." + parts[1], signature: raw[2], raw: raw[1]}
	if err := e.header(raw[0]); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *envelope) payload() []byte {
	if e == nil {
		return nil
	}
	return e.raw
}

// header reads the protected header. Members that could bring in another key or
// change what is signed (jku, x5u, crit, b64, cty, zip) are refused with every
// other unknown one. Microsoft's client for Python puts x5c into jwk and names
// algorithms in its own way; both are read, for x5c alone names the key.
func (e *envelope) header(raw []byte) error {
	members, err := object(raw)
	if err != nil {
		return refuse("header: "+err.Error(), "")
	}
	var x5c []string
	for name, v := range members {
		switch name {
		case "alg":
			err = text1(v, &e.alg)
		case "typ", "kid", "x5t", "x5t#S256": // say nothing that x5c does not
			var s string
			err = text1(v, &s)
		case "x5c":
			err = json.Unmarshal(v, &x5c)
		case "jwk":
			x5c, err = certificatesOf(v, members["x5c"])
		default:
			return refuse(fmt.Sprintf("header member %q", clip(name)), "leave alg, x5c and typ")
		}
		if err != nil {
			return refuse(fmt.Sprintf("header member %q has the wrong type", clip(name)), "")
		}
	}
	if e.alg == algNone {
		if len(x5c) > 0 || len(e.signature) > 0 {
			return refuse("alg is none beside a certificate or a signature", "name the algorithm that signed")
		}
		return nil
	}
	e.alg = spelledByPython(e.alg)
	if !knownAlg(e.alg) {
		return refuse(fmt.Sprintf("alg %q", clip(e.alg)), "sign with RS256, PS256, ES256 or a larger one of these")
	}
	if len(x5c) == 0 || len(x5c) > maxX5C {
		return refuse(fmt.Sprintf("%d certificates in x5c, want 1 to %d", len(x5c), maxX5C), "put the signer's certificate first")
	}
	der, err := base64.StdEncoding.Strict().DecodeString(x5c[0]) // RFC 7515 section 4.1.6: not base64url
	if err != nil {
		return refuse("x5c does not hold base64 of DER", "")
	}
	if e.certificate, err = x509.ParseCertificate(der); err != nil {
		return refuse("x5c does not hold a certificate", "")
	}
	return nil
}

// certificatesOf reads a jwk that holds x5c and no key.
func certificatesOf(jwk, beside json.RawMessage) ([]string, error) {
	members, err := object(jwk)
	if err != nil || len(members) != 1 || beside != nil {
		return nil, errors.New("not x5c alone")
	}
	var x5c []string
	return x5c, json.Unmarshal(members["x5c"], &x5c)
}

// spelledByPython gives an algorithm that Microsoft's client for Python names its
// name of RFC 7518.
func spelledByPython(alg string) string {
	if alg == "RSA256" {
		return "RS256"
	}
	return alg
}

// policy reads {"AttestationPolicy": …}. Clients encode the text in any of the
// four forms of base64, so all are read.
func (m Message) policy() (string, error) {
	if len(m.Payload) == 0 {
		return "", refuse("no payload", "an empty one is what a reset sends")
	}
	members, err := object(m.Payload)
	if err != nil {
		return "", refuse("payload: "+err.Error(), "")
	}
	var encoded string
	v, ok := members["AttestationPolicy"]
	if !ok || len(members) != 1 || text1(v, &encoded) != nil {
		return "", refuse(`the payload is not {"AttestationPolicy": "…"}`, "")
	}
	b, err := DecodeBase64(encoded)
	if err != nil {
		return "", refuse("AttestationPolicy is not base64", "encode the policy's text")
	}
	switch {
	case len(b) > MaxText:
		return "", refuse(fmt.Sprintf("a policy of %d bytes, at most %d", len(b), MaxText), "")
	case !utf8.Valid(b):
		return "", refuse("the policy is not UTF-8", "")
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("eyJ")):
		return "", refuse("a JWS inside of a JWS", "sign the policy's text itself")
	}
	return string(b), nil
}

// DecodeBase64 reads any of the four forms of base64: either alphabet, padded or
// not. Mixed alphabets, line breaks and bits that do not count are refused.
func DecodeBase64(s string) ([]byte, error) {
	// Evidence is long, and a search for one byte is much faster than for any of two.
	has := func(c byte) bool { return strings.IndexByte(s, c) >= 0 }
	if has('\r') || has('\n') {
		return nil, errors.New("base64 with line breaks")
	}
	encoding := base64.URLEncoding
	if has('+') || has('/') {
		encoding = base64.StdEncoding
	}
	if !strings.HasSuffix(s, "=") {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	b, err := encoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return b, nil
}

// object reads a JSON object and refuses duplicate members, invalid UTF-8 and
// trailing bytes.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not JSON")
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("member %q twice", clip(name))
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, errors.New("not JSON")
		}
		out[name] = v
	}
	return out, nil
}

// text1 reads a JSON string and nothing else; null is none.
func text1(raw json.RawMessage, s *string) error {
	if len(raw) == 0 || raw[0] != '"' {
		return errors.New("not a string")
	}
	return json.Unmarshal(raw, s)
}
