package refvalues

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const maxPredicates = 16

// DIDX509 is an identifier of the method did:x509, version 0
// (github.com/microsoft/did-x509, specification.md): the fingerprint of a
// certificate authority, and predicates that the certificate of a signer has to
// meet. It is a name for whoever the authority gives such certificates to. The
// zero value resolves nothing.
type DIDX509 struct {
	hash        crypto.Hash
	fingerprint []byte // of the authority's certificate
	predicates  []predicate
}

// predicate is a condition on a certificate: that it has an extended key usage,
// or else that its subject has these attributes.
type predicate struct {
	usage   string
	subject map[string]string
}

// ParseDIDX509 reads an identifier. Of the predicates in the specification it
// takes eku and subject; san and fulcio-issuer are refused as not supported, for
// a predicate that nobody checks lets in more. So are DID URLs (with a path, a
// query or a fragment), which name something else than an issuer. Errors wrap
// [ErrFormat].
func ParseDIDX509(s string) (DIDX509, error) {
	if len(s) > maxText {
		return DIDX509{}, malformed("did:x509: more than %d bytes", maxText)
	}
	parts := strings.Split(s, "::")
	head := strings.Split(parts[0], ":")
	if len(head) != 5 || head[0] != "did" || head[1] != "x509" || head[2] != "0" {
		return DIDX509{}, malformed("%q is not did:x509:0: with a hash and a fingerprint", clip(s))
	}
	d := DIDX509{hash: map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}[head[3]]}
	if d.hash == 0 {
		return DIDX509{}, malformed("did:x509: the hash %q is not sha256, sha384 or sha512", clip(head[3]))
	}
	var err error
	d.fingerprint, err = base64.RawURLEncoding.Strict().DecodeString(head[4])
	if err != nil || len(d.fingerprint) != d.hash.Size() || strings.ContainsAny(head[4], "\r\n") {
		return DIDX509{}, malformed("did:x509: the fingerprint is not base64url of a %s", head[3])
	}
	if n := len(parts) - 1; n < 1 || n > maxPredicates {
		return DIDX509{}, malformed("did:x509: %d predicates, want 1 to %d", n, maxPredicates)
	}
	for _, text := range parts[1:] {
		p, err := parsePredicate(text)
		if err != nil {
			return DIDX509{}, err
		}
		d.predicates = append(d.predicates, p)
	}
	return d, nil
}

func parsePredicate(text string) (predicate, error) {
	name, value, _ := strings.Cut(text, ":")
	switch name {
	case "eku":
		if !isOID(value) {
			return predicate{}, malformed("did:x509: eku %q is not an object identifier", clip(value))
		}
		return predicate{usage: value}, nil
	case "subject":
		return parseSubject(value)
	case "san", "fulcio-issuer":
		return predicate{}, malformed("did:x509: the predicate %s is not supported", name)
	}
	return predicate{}, malformed("did:x509: unknown predicate %q", clip(name))
}

// isOID reports whether a text is an object identifier as it is always written.
func isOID(s string) bool {
	oid, err := x509.ParseOID(s)
	return err == nil && oid.String() == s
}

// parseSubject reads key:value pairs, each key once.
func parseSubject(text string) (predicate, error) {
	words := strings.Split(text, ":")
	if len(words)%2 != 0 {
		return predicate{}, malformed("did:x509: subject needs pairs of an attribute and its value")
	}
	p := predicate{subject: map[string]string{}}
	for pair := range slices.Chunk(words, 2) {
		key := pair[0]
		if _, twice := p.subject[key]; twice || !isAttribute(key) {
			return predicate{}, malformed("did:x509: the attribute %q is unknown, or there twice", clip(key))
		}
		value, err := percentDecode(pair[1])
		if err != nil {
			return predicate{}, malformed("did:x509: %s: %v", clip(key), err)
		}
		p.subject[key] = value
	}
	return p, nil
}

// percentDecode reads one or more of the characters that the specification
// allows: letters, digits, ".", "-", "_", and all others as %XX.
func percentDecode(s string) (string, error) {
	other := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(".-_%", r)
	}
	if s == "" || strings.ContainsFunc(s, other) {
		return "", fmt.Errorf("%q is empty, or not percent-encoded", clip(s))
	}
	return url.PathUnescape(s)
}

// labels are the names that the specification has for attributes of a subject.
// Others go by their object identifier.
func labels() map[string]string {
	return map[string]string{
		"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	}
}

func isAttribute(key string) bool {
	for oid, label := range labels() {
		if key == label {
			return true
		}
		if key == oid {
			return false // written in another way
		}
	}
	return isOID(key)
}

// met says why a certificate does not meet the predicate.
func (p predicate) met(c *x509.Certificate) error {
	if p.subject == nil {
		usages, err := extendedKeyUsages(c)
		if err != nil {
			return err
		}
		if !slices.Contains(usages, p.usage) {
			return fmt.Errorf("the signer's certificate does not have the extended key usage %s", p.usage)
		}
		return nil
	}
	subject, names := map[string]string{}, labels()
	for _, a := range c.Subject.Names {
		key := a.Type.String()
		if label, ok := names[key]; ok {
			key = label
		}
		value, isText := a.Value.(string)
		if _, twice := subject[key]; twice || !isText {
			return fmt.Errorf("the subject of the signer's certificate has %s twice, or not as text", key)
		}
		subject[key] = value
	}
	for key, want := range p.subject {
		if got, ok := subject[key]; !ok || got != want {
			return fmt.Errorf("the subject of the signer's certificate does not have the %s of the identifier", key)
		}
	}
	return nil
}
