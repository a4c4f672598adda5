package cmw

import "slices"

// Parse reads a message in any of its forms: JSON record or collection, CBOR
// record, collection or tag. It refuses what is not in the one form that
// draft-ietf-rats-msg-wrap-23 gives it, and of CBOR indefinite lengths too.
func Parse(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return nil, malformed("more than %d bytes", MaxMessage)
	}
	if len(b) == 0 {
		return nil, malformed("no bytes")
	}
	var m Message
	var err error
	if b[0] == '[' || b[0] == '{' {
		m, err = parseJSON(b)
	} else {
		m, err = parseCBOR(b)
	}
	if err != nil {
		return nil, err
	}
	// The parsers build; what is acceptable is said in one place for all forms.
	if err := m.validate(&count{}); err != nil {
		return nil, err
	}
	return m, nil
}

func sortItems(items []Item) {
	slices.SortFunc(items, func(a, b Item) int { return compareLabels(a.Label, b.Label) })
}
