package cmw

import (
	"math"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

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
		DupMapKey:   cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden,
		UTF8:        cbor.UTF8RejectInvalid,
		IntDec:      cbor.IntDecConvertNone,
		BignumTag:   cbor.BignumTagForbidden,
		// A tag and a record inside the innermost collection.
		MaxNestedLevels:  MaxDepth + 2,
		MaxArrayElements: 16, // the least that can be set
		MaxMapPairs:      MaxItems + 1,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

func parseCBOR(b []byte) (Message, error) {
	var v any
	if err := modes().dec.Unmarshal(b, &v); err != nil {
		return nil, malformed("neither JSON nor CBOR of a message within the bounds")
	}
	return messageOf(v)
}

func messageOf(v any) (Message, error) {
	switch v := v.(type) {
	case []any:
		return recordOf(v)
	case map[any]any:
		return collectionOf(v)
	case cbor.Tag:
		format, ok := formatOf(v.Number)
		value, isBytes := v.Content.([]byte)
		if !ok || !isBytes {
			return nil, malformed("a tag: want bytes under the tag of a content format")
		}
		return Record{ContentFormat: format, Tagged: true, Value: value}, nil
	default:
		return nil, malformed("want a record, a collection or a tag")
	}
}

func recordOf(members []any) (Message, error) {
	if len(members) != 2 && len(members) != 3 {
		return nil, malformed("a record: want two or three members")
	}
	var r Record
	var ok bool
	switch t := members[0].(type) {
	case string:
		r.MediaType, ok = t, t != ""
	case uint64:
		r.ContentFormat, ok = uint16(t), t <= math.MaxUint16
	}
	value, isBytes := members[1].([]byte)
	if !ok || !isBytes {
		return nil, malformed("a record: want a media type or a content format, and bytes")
	}
	r.Value = value
	if len(members) == 3 {
		ind, _ := members[2].(uint64)
		if ind == 0 || ind > math.MaxUint32 {
			return nil, malformed("a record: want indicators of 1 or more, or none")
		}
		r.Indicators = Indicators(ind)
	}
	return r, nil
}

func collectionOf(members map[any]any) (Message, error) {
	var c Collection
	for k, v := range members {
		if k == typeLabel {
			text, ok := v.(string)
			if !ok || text == "" {
				return nil, malformed("%s: want a text", typeLabel)
			}
			c.Type = text
			continue
		}
		label, err := labelOf(k)
		if err != nil {
			return nil, err
		}
		m, err := messageOf(v)
		if err != nil {
			return nil, err
		}
		c.Items = append(c.Items, Item{Label: label, Message: m})
	}
	sortItems(c.Items)
	return c, nil
}

func labelOf(k any) (Label, error) {
	switch k := k.(type) {
	case string:
		if k != "" {
			return Label{Text: k}, nil
		}
	case uint64:
		if k <= math.MaxInt64 {
			return Label{Number: int64(k)}, nil
		}
	case int64:
		return Label{Number: k}, nil
	}
	return Label{}, malformed("a label: want a text or an integer")
}

// MarshalCBOR returns the CBOR form: a tag if the record is tagged, else an array.
func (r Record) MarshalCBOR() ([]byte, error) {
	if err := r.validate(&count{}); err != nil {
		return nil, err
	}
	if r.Tagged {
		return modes().enc.Marshal(cbor.Tag{Number: tagOf(r.ContentFormat), Content: r.Value})
	}
	members := []any{r.ContentFormat, r.Value}
	if r.MediaType != "" {
		members[0] = r.MediaType
	}
	if r.Indicators != 0 {
		members = append(members, r.Indicators)
	}
	return modes().enc.Marshal(members)
}

// MarshalCBOR returns the CBOR form.
func (c Collection) MarshalCBOR() ([]byte, error) {
	if err := c.validate(&count{}); err != nil {
		return nil, err
	}
	members := make(map[any]any, len(c.Items)+1)
	for _, it := range c.Items {
		if it.Label.Text != "" {
			members[it.Label.Text] = it.Message
		} else {
			members[it.Label.Number] = it.Message
		}
	}
	if c.Type != "" {
		members[typeLabel] = c.Type
	}
	return modes().enc.Marshal(members)
}
