package attest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// errNotOurCBOR says that bytes, or what they hold, are not in the one form that
// is written here. Which is wrong where is for nobody but the issuer's author.
var errNotOurCBOR = errors.New("not the deterministic CBOR of a token")

// cwtModes are the two CBOR modes of tokens, made once.
var cwtModes = sync.OnceValue(func() (m struct {
	enc cbor.EncMode
	dec cbor.DecMode
}) {
	options := cbor.CoreDetEncOptions()
	// A header or list that is null is not the one that is empty.
	options.NilContainers = cbor.NilContainerAsEmpty
	var err error
	if m.enc, err = options.EncMode(); err != nil {
		panic(err) // constant options
	}
	m.dec, err = cbor.DecOptions{
		DupMapKey:       cbor.DupMapKeyEnforcedAPF,
		IndefLength:     cbor.IndefLengthForbidden,
		TagsMd:          cbor.TagsForbidden,
		UTF8:            cbor.UTF8RejectInvalid,
		NaN:             cbor.NaNDecodeForbidden,
		Inf:             cbor.InfDecodeForbidden,
		IntDec:          cbor.IntDecConvertNone,
		MaxNestedLevels: maxJSONDepth,
		// One byte is the least that an element or half a pair takes.
		MaxArrayElements: MaxToken,
		MaxMapPairs:      MaxToken,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

// encodeCBOR returns the deterministic encoding (RFC 8949 section 4.2.1) of v.
func encodeCBOR(v any) ([]byte, error) { return cwtModes().enc.Marshal(v) }

// decodeCBOR reads one item into v and refuses every encoding of it but the
// deterministic one: longer integers and floats, unsorted or repeated keys,
// indefinite lengths, tags, bytes after the item.
func decodeCBOR[T any](b []byte, v *T) error {
	if err := cwtModes().dec.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := encodeCBOR(*v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errNotOurCBOR
	}
	return nil
}

// cwtCodec carries claims between their two forms, and remembers whether one was
// missing or not as it must be.
type cwtCodec struct{ failed bool }

func (w *cwtCodec) must(ok bool) { w.failed = w.failed || !ok }

func (w *cwtCodec) err() error {
	if w.failed {
		return errNotOurCBOR
	}
	return nil
}

// cborKey is an integer key as it is decoded.
func cborKey(key int64) any {
	if key < 0 {
		return key
	}
	return uint64(key)
}

// cborInt is a decoded integer, or 0 for what is none or does not fit.
func cborInt(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case uint64:
		if n <= 1<<62 {
			return int64(n)
		}
	}
	return 0
}

// take returns the value under a key if it has the wanted type.
func take[T any](w *cwtCodec, m map[any]any, key int64) T {
	v, ok := m[cborKey(key)].(T)
	w.must(ok)
	return v
}

func has(m map[any]any, key int64) bool {
	_, there := m[cborKey(key)]
	return there
}

// optional returns what read finds under a key, nil if there is no such key.
func optional[T any](m map[any]any, key int64, read func(map[any]any, int64) T) *T {
	if !has(m, key) {
		return nil
	}
	v := read(m, key)
	return &v
}

func (w *cwtCodec) text(m map[any]any, key int64) string { return take[string](w, m, key) }

func (w *cwtCodec) bool(m map[any]any, key int64) bool { return take[bool](w, m, key) }

func (w *cwtCodec) members(m map[any]any, key int64) map[any]any {
	return take[map[any]any](w, m, key)
}

func (w *cwtCodec) bytes(m map[any]any, key int64, least, most int) []byte {
	b := take[[]byte](w, m, key)
	w.must(len(b) >= least && len(b) <= most)
	return b
}

func (w *cwtCodec) nonce(m map[any]any, key int64) []byte { return w.bytes(m, key, minNonce, maxNonce) }

func (w *cwtCodec) int(m map[any]any, key int64) int64 {
	v := m[cborKey(key)]
	n := cborInt(v)
	w.must(n != 0 || v == uint64(0))
	return n
}

func (w *cwtCodec) date(m map[any]any, key int64) *int64 {
	n := w.int(m, key)
	return &n
}

// nothingLeft refuses members beside the known ones.
func (w *cwtCodec) nothingLeft(m map[any]any, known ...int64) {
	n := 0
	for _, key := range known {
		if has(m, key) {
			n++
		}
	}
	w.must(n == len(m))
}

// decoded is the bytes behind a text of a JWT.
func (w *cwtCodec) decoded(s string) []byte {
	b, ok := decode64(s)
	w.must(ok)
	return b
}

func (w *cwtCodec) unhexed(s string) []byte {
	b, err := hex.DecodeString(s)
	w.must(err == nil)
	return b
}

// textKeys returns a decoded value of a claims tree with maps as JSON has them,
// and whether it holds nothing but what a claims tree does.
func textKeys(v any) (any, bool) {
	switch v := v.(type) {
	case nil, bool, string, int64, uint64, float64:
		return v, true
	case []any:
		all := true
		for i := range v {
			var ok bool
			v[i], ok = textKeys(v[i])
			all = all && ok
		}
		return v, all
	case map[any]any:
		out, all := make(map[string]any, len(v)), true
		for k, e := range v {
			name, okName := k.(string)
			value, ok := textKeys(e)
			out[name] = value
			all = all && ok && okName && claimName(name)
		}
		return out, all
	}
	return nil, false
}
