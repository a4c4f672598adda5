package refvalues

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Tags of draft-ietf-rats-corim. 500 and 502 are of its older revisions.
const (
	tagAnyCoRIM    = 500
	tagUnsigned    = 501
	tagSigned      = 502
	tagCOSESign1   = 18
	tagCoMID       = 506
	tagBytes       = 560
	tagMaskedBytes = 563
	tagSVN         = 552
	tagMinSVN      = 553
	tagOID         = 111
	tagUUID        = 37
)

// CoRIMOptions says what a CoRIM must be. The zero value refuses everything.
type CoRIMOptions struct {
	// Keys are those that may sign: *ecdsa.PublicKey or ed25519.PublicKey.
	Keys []crypto.PublicKey
	// AllowUnsigned takes a CoRIM that is not signed, on the word of whoever
	// passes it.
	AllowUnsigned bool
	// At is the time at which a CoRIM with a validity must be valid.
	At time.Time
	// Classes maps class identifiers that the drafts do not assign to a TEE: an
	// OID ("1.2.3"), a UUID, or "vendor/model". The Intel draft names no class for
	// a TD, so a CoRIM about TDs needs this.
	Classes map[string]tee.Kind
}

// FromCoRIM reads the reference triples of a CoRIM. Each triple about a TEE that
// is known becomes an entry; what else the CoRIM holds (endorsements, keys,
// software identities, environments of other things) is listed as skipped.
func FromCoRIM(b []byte, o CoRIMOptions) (Values, error) {
	payload, err := o.open(b)
	if err != nil {
		return Values{}, err
	}
	m, err := mapOf(payload, "corim")
	if err != nil {
		return Values{}, err
	}
	p, err := o.profile(m)
	if err != nil {
		return Values{}, err
	}
	if v, ok := m.take(4); ok {
		if err := o.valid(v, "corim: rim-validity"); err != nil {
			return Values{}, err
		}
	}
	tags, _ := m.take(1)
	items, err := arrayOf(tags, "corim: tags", MaxEntries)
	if err != nil {
		return Values{}, err
	}
	r := comidReader{o: o, profile: p}
	for i, t := range items {
		if err := r.tag(t, fmt.Sprintf("corim: tags[%d]", i)); err != nil {
			return Values{}, err
		}
	}
	for _, describing := range []int64{0, 2, 5} { // id, dependent-rims, entities
		m.take(describing)
	}
	if err := m.done(); err != nil {
		return Values{}, err
	}
	return r.out.finish()
}

// open returns the map of an unsigned or a signed CoRIM.
func (o CoRIMOptions) open(b []byte) (any, error) {
	v, err := decode(b)
	if err != nil {
		return nil, err
	}
	if inner, ok := tagged(v, tagAnyCoRIM); ok {
		v, b = inner, content(b)
	}
	if inner, ok := tagged(v, tagUnsigned); ok {
		if !o.AllowUnsigned {
			return nil, fmt.Errorf("%w: the CoRIM is not signed", ErrNotTrusted)
		}
		return inner, nil
	}
	if inner, ok := tagged(v, tagSigned); ok {
		v, b = inner, content(b)
	}
	if _, ok := tagged(v, tagCOSESign1); !ok {
		return nil, malformed("neither an unsigned CoRIM (tag 501) nor a signed one (tag 18)")
	}
	return o.openSigned(b)
}

// content returns the bytes of what is inside a tag.
func content(b []byte) []byte {
	var t cbor.RawTag
	if err := cbor.Unmarshal(b, &t); err != nil {
		return nil
	}
	return t.Content
}

// openSigned checks a tagged COSE_Sign1 and returns the map inside.
func (o CoRIMOptions) openSigned(b []byte) (any, error) {
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(b); err != nil {
		return nil, malformed("COSE_Sign1: %s", clip(err.Error()))
	}
	if err := o.header(msg.Headers.Protected); err != nil {
		return nil, err
	}
	if !o.verified(&msg) {
		return nil, fmt.Errorf("%w: no signature by one of %d keys", ErrNotTrusted, len(o.Keys))
	}
	inner, err := decode(msg.Payload)
	if err != nil {
		return nil, err
	}
	corim, ok := tagged(inner, tagUnsigned)
	if !ok {
		return nil, malformed("the payload is not an unsigned CoRIM (tag 501)")
	}
	return corim, nil
}

// header checks the protected header (draft-ietf-rats-corim section 4.2.1).
func (o CoRIMOptions) header(h cose.ProtectedHeader) error {
	if _, ok := h[cose.HeaderLabelCritical]; ok {
		return malformed("COSE header: critical parameters are not supported")
	}
	switch typ, _ := h[cose.HeaderLabelContentType].(string); typ {
	case "application/rim+cbor", "application/corim-unsigned+cbor": // the latter of older revisions
	default:
		return malformed("COSE header: the content type is not application/rim+cbor")
	}
	const labelMeta = int64(8) // corim-meta
	raw, ok := h[labelMeta].([]byte)
	if !ok {
		return nil
	}
	v, err := decode(raw)
	if err != nil {
		return err
	}
	m, err := mapOf(v, "corim-meta")
	if err != nil {
		return err
	}
	if v, ok := m.take(1); ok {
		return o.valid(v, "corim-meta: signature-validity")
	}
	return nil
}

func (o CoRIMOptions) verified(msg *cose.Sign1Message) bool {
	alg, err := msg.Headers.Protected.Algorithm()
	if err != nil || len(o.Keys) > maxKeys {
		return false
	}
	for _, k := range o.Keys {
		if !fits(alg, k) {
			continue
		}
		v, err := cose.NewVerifier(alg, k)
		if err == nil && msg.Verify(nil, v) == nil {
			return true
		}
	}
	return false
}

// fits reports whether a key is one that an algorithm is made for.
func fits(alg cose.Algorithm, key crypto.PublicKey) bool {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return alg == cose.AlgorithmEdDSA
	}
	switch alg {
	case cose.AlgorithmES256:
		return k.Curve == elliptic.P256()
	case cose.AlgorithmES384:
		return k.Curve == elliptic.P384()
	case cose.AlgorithmES512:
		return k.Curve == elliptic.P521()
	default:
		return false
	}
}

// valid checks a validity-map against At.
func (o CoRIMOptions) valid(v any, at string) error {
	m, err := mapOf(v, at)
	if err != nil {
		return err
	}
	if o.At.IsZero() {
		return malformed("%s: give the time at which it must be valid", at)
	}
	if v, ok := m.take(0); ok {
		t, ok := v.(time.Time)
		if !ok || o.At.Before(t) {
			return malformed("%s: not valid yet", at)
		}
	}
	end, _ := m.take(1)
	t, ok := end.(time.Time)
	if !ok || o.At.After(t) {
		return malformed("%s: not valid any more", at)
	}
	return m.done()
}
