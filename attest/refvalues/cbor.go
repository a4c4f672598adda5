package refvalues

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// decode reads one CBOR item into the generic types: uint64, int64, []byte,
// string, bool, nil, []any, map[any]any and cbor.Tag. Duplicate keys, indefinite
// lengths, invalid text, deep nesting and trailing bytes are refused.
func decode(b []byte) (any, error) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 16, MaxArrayElements: 4096, MaxMapPairs: 4096,
		IntDec: cbor.IntDecConvertNone, TimeTagToAny: cbor.TimeTagToTime,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("prepare CBOR: %w", err)
	}
	if len(b) > MaxDocument {
		return nil, malformed("%d bytes, at most %d", len(b), MaxDocument)
	}
	d := mode.NewDecoder(bytes.NewReader(b))
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, malformed("not CBOR that is read here: %s", clip(err.Error()))
	}
	if d.NumBytesRead() != len(b) {
		return nil, malformed("bytes after the CBOR item")
	}
	return v, nil
}

// tagged returns the content of an item with the tag, and whether it has it.
func tagged(v any, number uint64) (any, bool) {
	t, ok := v.(cbor.Tag)
	if !ok || t.Number != number {
		return nil, false
	}
	return t.Content, true
}

// cmap is a CBOR map whose keys are integers, read once per key so that what is
// left over is known.
type cmap struct {
	at   string
	left map[int64]any
}

func mapOf(v any, at string) (cmap, error) {
	m, ok := v.(map[any]any)
	if !ok || len(m) == 0 {
		return cmap{}, malformed("%s: want a map that is not empty", at)
	}
	out := cmap{at: at, left: make(map[int64]any, len(m))}
	for k, v := range m {
		switch k := k.(type) {
		case uint64:
			if k > 1<<32 {
				return cmap{}, malformed("%s: key %d", at, k)
			}
			out.left[int64(k)] = v
		case int64:
			out.left[k] = v
		default:
			return cmap{}, malformed("%s: a key is no integer", at)
		}
	}
	return out, nil
}

// take removes a key and returns its value.
func (m cmap) take(key int64) (any, bool) {
	v, ok := m.left[key]
	delete(m.left, key)
	return v, ok
}

// done refuses keys that nobody took: they might be conditions.
func (m cmap) done() error {
	lowest, any := int64(0), false
	for k := range m.left {
		if !any || k < lowest {
			lowest, any = k, true
		}
	}
	if any {
		return malformed("%s: key %d is not supported, and leaving it out would accept more", m.at, lowest)
	}
	return nil
}

func arrayOf(v any, at string, most int) ([]any, error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 || len(a) > most {
		return nil, malformed("%s: want a list of 1 to %d", at, most)
	}
	return a, nil
}

func uintOf(v any, at string) (uint64, error) {
	n, ok := v.(uint64)
	if !ok {
		return 0, malformed("%s: want an unsigned integer", at)
	}
	return n, nil
}

func textOf(v any, at string) (string, error) {
	s, ok := v.(string)
	if !ok || len(s) > maxText {
		return "", malformed("%s: want a text of at most %d bytes", at, maxText)
	}
	return s, nil
}

func bytesOf(v any, at string, most int) (string, error) {
	b, ok := v.([]byte)
	if !ok || len(b) == 0 || len(b) > most {
		return "", malformed("%s: want 1 to %d bytes", at, most)
	}
	return hex.EncodeToString(b), nil
}
