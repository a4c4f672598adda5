package cmw

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a message. One beyond them is refused.
const (
	MaxMessage = 1 << 20 // bytes, encoded
	MaxDepth   = 4       // collections inside each other
	MaxItems   = 64      // records and collections in all
	maxLabel   = 128     // bytes of a label
	maxType    = 256     // bytes of a media type, and of a collection's type
)

// ErrMessage is wrapped by every error of [Parse] and of encoding: the bytes, or
// the value, are no conceptual message within the bounds. The text does not
// repeat them.
var ErrMessage = errors.New("invalid conceptual message")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, a...))
}

// Indicators says which kinds of conceptual message a value holds, for types
// that leave it open; 0 says nothing (draft-ietf-rats-msg-wrap-23 section 3.1).
type Indicators uint32

// The registered indicators.
const (
	ReferenceValues    Indicators = 1 << 0
	Endorsements       Indicators = 1 << 1
	EvidenceIndicator  Indicators = 1 << 2
	AttestationResults Indicators = 1 << 3
	AppraisalPolicy    Indicators = 1 << 4

	allIndicators = 1<<5 - 1
)

// Message is a [Record] or a [Collection].
type Message interface {
	// MarshalJSON returns the JSON form, if there is one.
	MarshalJSON() ([]byte, error)
	// MarshalCBOR returns the CBOR form, deterministically encoded.
	MarshalCBOR() ([]byte, error)

	validate(c *count) error
}

// Record is one conceptual message with its type. The zero value has no value
// and does not encode.
type Record struct {
	// MediaType is the type with its parameters. When it is empty, ContentFormat
	// is the type; JSON has media types only.
	MediaType     string
	ContentFormat uint16 // CoAP Content-Format (RFC 7252 section 12.3)
	// Tagged is the form of CBOR in which the content format is a tag (draft-ietf-rats-msg-wrap-23
	// section 3.2). It leaves no room for indicators.
	Tagged     bool
	Value      []byte // at least one byte
	Indicators Indicators
}

// Collection is several messages, each under its label. The order of the items
// has no meaning; those of [Parse] are sorted.
type Collection struct {
	// Type says what the labels mean: an absolute URI or an OID, or nothing.
	Type  string
	Items []Item
}

// Item is one message of a collection.
type Item struct {
	Label   Label
	Message Message
}

// Label names an item: by Text, or, where that is empty, by Number, which only
// CBOR has.
type Label struct {
	Text   string
	Number int64
}

func compareLabels(a, b Label) int {
	return cmp.Or(strings.Compare(a.Text, b.Text), cmp.Compare(a.Number, b.Number))
}

// count bounds a whole message while it is built or checked.
type count struct{ depth, items, bytes int }

func (c *count) add(r Record) error {
	c.items++
	c.bytes += len(r.Value)
	return c.check()
}

func (c *count) enter() error {
	c.items++
	c.depth++
	return c.check()
}

func (c *count) leave() { c.depth-- }

func (c *count) check() error {
	switch {
	case c.depth > MaxDepth:
		return malformed("collections nested deeper than %d", MaxDepth)
	case c.items > MaxItems:
		return malformed("more than %d items", MaxItems)
	case c.bytes > MaxMessage:
		return malformed("more than %d bytes", MaxMessage)
	}
	return nil
}

func (r Record) validate(c *count) error {
	switch {
	case r.MediaType != "" && (r.ContentFormat != 0 || r.Tagged):
		return malformed("a record with two types")
	case r.MediaType != "" && !validMediaType(r.MediaType):
		return malformed("type: want a media type of at most %d bytes", maxType)
	case r.Tagged && r.ContentFormat > maxTagged:
		return malformed("type: no tag for that content format")
	case r.Tagged && r.Indicators != 0:
		return malformed("a tag with indicators")
	case len(r.Value) == 0:
		return malformed("a record without a value")
	case r.Indicators > allIndicators:
		return malformed("indicators: want the registered ones")
	}
	return c.add(r)
}

func (c Collection) validate(n *count) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.leave()
	if len(c.Items) == 0 {
		return malformed("an empty collection")
	}
	if c.Type != "" && !validCollectionType(c.Type) {
		return malformed("%s: want an absolute URI or an OID", typeLabel)
	}
	seen := make(map[Label]bool, len(c.Items))
	for _, it := range c.Items {
		if err := it.Label.validate(); err != nil {
			return err
		}
		if seen[it.Label] {
			return malformed("a label twice")
		}
		seen[it.Label] = true
		if it.Message == nil {
			return malformed("a label without a message")
		}
		if err := it.Message.validate(n); err != nil {
			return err
		}
	}
	return nil
}

func (l Label) validate() error {
	if l.Text != "" && (len(l.Text) > maxLabel || l.Text == typeLabel || !printable(l.Text) || l.Number != 0) {
		return malformed("label: want at most %d printable bytes", maxLabel)
	}
	return nil
}

// typeLabel is the reserved key of a collection's type.
const typeLabel = "__cmwc_t"

var (
	_ Message = Record{}
	_ Message = Collection{}
)
