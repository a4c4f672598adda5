package software

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// errNotCanonical is the cause when bytes decode but are not the one
// deterministic encoding of their content.
var errNotCanonical = errors.New("not in deterministic encoding")

// modes are the two CBOR modes of this package, made once.
var modes = sync.OnceValue(func() (m struct {
	enc cbor.EncMode
	dec cbor.DecMode
}) {
	encOptions := cbor.CoreDetEncOptions()
	// A nil list is the empty list: null never appears, so it never decodes.
	encOptions.NilContainers = cbor.NilContainerAsEmpty
	var err error
	if m.enc, err = encOptions.EncMode(); err != nil {
		panic(err) // constant options
	}
	m.dec, err = cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   8,
		MaxArrayElements:  2 * MaxCounters,
		MaxMapPairs:       64,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

// encode returns the deterministic CBOR (RFC 8949 section 4.2.1) of v.
func encode(v any) ([]byte, error) { return modes().enc.Marshal(v) }

// decodeLoose decodes b strictly (no unknown or duplicate fields, no indefinite
// lengths, no tags, no trailing bytes) but does not insist on deterministic
// encoding; the caller follows with [canonical].
func decodeLoose[T any](b []byte) (T, error) {
	var v T
	err := modes().dec.Unmarshal(b, &v)
	return v, err
}

// canonical refuses bytes that are not the deterministic encoding of v. It also
// refuses fields that are missing, because v would encode them.
func canonical(b []byte, v any) error {
	again, err := encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errNotCanonical
	}
	return nil
}

// decode is [decodeLoose] followed by [canonical], for at most max bytes.
func decode[T any](b []byte, max int) (T, error) {
	var none T
	if len(b) > max {
		return none, fmt.Errorf("%d bytes, at most %d", len(b), max)
	}
	v, err := decodeLoose[T](b)
	if err != nil {
		return none, err
	}
	if err := canonical(b, v); err != nil {
		return none, err
	}
	return v, nil
}
