package cmw

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// jsonReader reads a message token by token, so that nothing is built that is
// not allowed.
type jsonReader struct {
	d *json.Decoder
	n count
}

func parseJSON(b []byte) (Message, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, malformed("not JSON, or not in UTF-8")
	}
	r := jsonReader{d: json.NewDecoder(bytes.NewReader(b))}
	r.d.UseNumber()
	m, err := r.message()
	if err != nil {
		return nil, err
	}
	if _, err := r.d.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("bytes after the message")
	}
	return m, nil
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, malformed("not JSON at offset %d", r.d.InputOffset())
	}
	return t, nil
}

func (r *jsonReader) message() (Message, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		return r.record()
	case json.Delim('{'):
		return r.collection()
	default:
		return nil, malformed("want a record or a collection at offset %d", r.d.InputOffset())
	}
}

// record reads the members of an array whose bracket has been read.
func (r *jsonReader) record() (Message, error) {
	var members [3]json.Token
	n := 0
	for ; r.d.More(); n++ {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		if n == len(members) {
			return nil, malformed("a record of more than three members")
		}
		members[n] = t
	}
	if _, err := r.token(); err != nil { // the closing bracket
		return nil, err
	}
	mediaType, okType := members[0].(string)
	text, okValue := members[1].(string)
	value, okText := decode64(text)
	if !okType || mediaType == "" || !okValue || !okText {
		return nil, malformed("a record: want a media type and base64url without padding")
	}
	rec := Record{MediaType: mediaType, Value: value}
	if n == len(members) {
		number, _ := members[2].(json.Number)
		ind, err := strconv.ParseUint(number.String(), 10, 32)
		if err != nil || ind == 0 || strconv.FormatUint(ind, 10) != number.String() {
			return nil, malformed("a record: want indicators of 1 or more, or none")
		}
		rec.Indicators = Indicators(ind)
	}
	return rec, r.n.add(rec)
}

// collection reads the members of an object whose brace has been read.
func (r *jsonReader) collection() (Message, error) {
	if err := r.n.enter(); err != nil {
		return nil, err
	}
	var c Collection
	seen := map[string]bool{}
	for r.d.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		label, _ := t.(string) // of an object's member it is one
		if label == "" || seen[label] {
			return nil, malformed("an empty label, or a label twice")
		}
		seen[label] = true
		if label == typeLabel {
			if c.Type, err = r.collectionType(); err != nil {
				return nil, err
			}
			continue
		}
		m, err := r.message()
		if err != nil {
			return nil, err
		}
		c.Items = append(c.Items, Item{Label: Label{Text: label}, Message: m})
	}
	if _, err := r.token(); err != nil { // the closing brace
		return nil, err
	}
	r.n.leave()
	sortItems(c.Items)
	return c, nil
}

func (r *jsonReader) collectionType() (string, error) {
	t, err := r.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok || s == "" {
		return "", malformed("%s: want a text", typeLabel)
	}
	return s, nil
}

// MarshalJSON returns the JSON form. A record of a content format has none.
func (r Record) MarshalJSON() ([]byte, error) {
	if err := r.validate(&count{}); err != nil {
		return nil, err
	}
	if r.MediaType == "" {
		return nil, malformed("a content format has no JSON form: name the media type")
	}
	members := []any{r.MediaType, encode64(r.Value)}
	if r.Indicators != 0 {
		members = append(members, r.Indicators)
	}
	return json.Marshal(members)
}

// MarshalJSON returns the JSON form. One with a numeric label or a content format
// in it has none.
func (c Collection) MarshalJSON() ([]byte, error) {
	if err := c.validate(&count{}); err != nil {
		return nil, err
	}
	members := make(map[string]any, len(c.Items)+1)
	for _, it := range c.Items {
		if it.Label.Text == "" {
			return nil, malformed("a numeric label has no JSON form")
		}
		members[it.Label.Text] = it.Message
	}
	if c.Type != "" {
		members[typeLabel] = c.Type
	}
	return json.Marshal(members)
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode64 reads unpadded base64url in its one canonical form. Comparing with the
// encoding also refuses the line breaks that the decoder skips.
func decode64(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil && encode64(b) == s
}
