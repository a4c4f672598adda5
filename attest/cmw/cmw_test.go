package cmw_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(s string) cmw.Label { return cmw.Label{Text: s} }

// The shapes are those of draft-ietf-rats-msg-wrap-23; the bytes are worked out by hand.
func TestParse(t *testing.T) {
	value := []byte{0x23, 0x47, 0xda, 0x55}
	cases := []struct {
		name string
		in   []byte
		want cmw.Message
	}{
		{"JSON record", []byte(`["application/eat+jwt", "I0faVQ"]`), cmw.Record{MediaType: "application/eat+jwt", Value: value}},
		{"JSON record with indicators", []byte(`["application/eat+jwt","I0faVQ",31]` + "\n"), cmw.Record{MediaType: "application/eat+jwt", Value: value, Indicators: 31}},
		{"JSON record with parameters", []byte(`["application/eat+cwt; eat_profile=\"tag:x,2026:y#z\"","I0faVQ",4]`),
			cmw.Record{MediaType: `application/eat+cwt; eat_profile="tag:x,2026:y#z"`, Value: value, Indicators: cmw.EvidenceIndicator}},
		{"JSON collection", []byte(`{"b":["a/b","I0faVQ"],"__cmwc_t":"tag:x.example,2026:y","a":{"c":["a/b","I0faVQ",2]}}`), cmw.Collection{
			Type: "tag:x.example,2026:y", Items: []cmw.Item{
				{Label: text("a"), Message: cmw.Collection{Items: []cmw.Item{{Label: text("c"), Message: cmw.Record{MediaType: "a/b", Value: value, Indicators: cmw.Endorsements}}}}},
				{Label: text("b"), Message: cmw.Record{MediaType: "a/b", Value: value}},
			},
		}},
		{"CBOR record of a content format", unhex(t, "82 19 fde7 44 2347da55"), cmw.Record{ContentFormat: 64999, Value: value}},
		{"CBOR record of a media type", unhex(t, "83 63 612f62 44 2347da55 04"), cmw.Record{MediaType: "a/b", Value: value, Indicators: cmw.EvidenceIndicator}},
		{"CBOR tag", unhex(t, "da 6374ffe6 44 2347da55"), cmw.Record{ContentFormat: 64999, Tagged: true, Value: value}},
		{"first tag", unhex(t, "da 63740101 41 00"), cmw.Record{Tagged: true, Value: []byte{0}}},
		{"last tag", unhex(t, "da 6374ffff 41 00"), cmw.Record{ContentFormat: 65024, Tagged: true, Value: []byte{0}}},
		{"CBOR collection, unsorted", unhex(t, "a4 61 62 da 6374ffe6 44 2347da55 01 82 19 fde7 44 2347da55 20 82 00 41 00 68 5f5f636d77635f74 65 322e352e36"), cmw.Collection{
			Type: "2.5.6", Items: []cmw.Item{
				{Label: cmw.Label{Number: -1}, Message: cmw.Record{Value: []byte{0}}},
				{Label: cmw.Label{Number: 1}, Message: cmw.Record{ContentFormat: 64999, Value: value}},
				{Label: text("b"), Message: cmw.Record{ContentFormat: 64999, Tagged: true, Value: value}},
			},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := cmw.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("message (-want +got):\n%s", d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	record := `["a/b","AA"]`
	deep := strings.Repeat(`{"a":`, cmw.MaxDepth+1) + record + strings.Repeat("}", cmw.MaxDepth+1)
	many := `{` + strings.TrimSuffix(strings.Repeat(`"x":`+record+`,`, cmw.MaxItems+1), ",") + `}`
	for i := range cmw.MaxItems + 1 {
		many = strings.Replace(many, `"x"`, `"`+strings.Repeat("y", i+1)+`"`, 1)
	}
	deepCBOR := append(bytes.Repeat([]byte{0xa1, 0x01}, cmw.MaxDepth+1), 0x82, 0x00, 0x41, 0x00)
	manyCBOR := []byte{0xb8, cmw.MaxItems + 1}
	for i := range cmw.MaxItems + 1 {
		manyCBOR = append(manyCBOR, 0x18, byte(24+i), 0x82, 0x00, 0x41, 0x00)
	}
	cases := map[string][]byte{
		"nothing":                        nil,
		"a number":                       []byte("1"),
		"a text":                         []byte(`"a/b"`),
		"space before it":                []byte(" " + record),
		"too long":                       append([]byte(record), bytes.Repeat([]byte(" "), cmw.MaxMessage)...),
		"JSON and more":                  []byte(record + record),
		"JSON and a comma":               []byte(record + ","),
		"half of JSON":                   []byte(`["a/b","AA"`),
		"trailing comma":                 []byte(`["a/b","AA",]`),
		"empty record":                   []byte(`[]`),
		"record of one":                  []byte(`["a/b"]`),
		"record of four":                 []byte(`["a/b","AA",1,1]`),
		"record with a record":           []byte(`["a/b",["a/b","AA"]]`),
		"record with a list as third":    []byte(`["a/b","AA",[1]]`),
		"content format in JSON":         []byte(`[263,"AA"]`),
		"no value":                       []byte(`["a/b",""]`),
		"null value":                     []byte(`["a/b",null]`),
		"padded value":                   []byte(`["a/b","AA=="]`),
		"value in base64":                []byte(`["a/b","+/+/"]`),
		"value with spare bits":          []byte(`["a/b","AB"]`),
		"value with a line break":        []byte(`["a/b","AA\n"]`),
		"value with a space":             []byte(`["a/b","AA "]`),
		"indicators 0":                   []byte(`["a/b","AA",0]`),
		"indicators negative":            []byte(`["a/b","AA",-1]`),
		"indicators a float":             []byte(`["a/b","AA",1.0]`),
		"indicators with exponent":       []byte(`["a/b","AA",1e0]`),
		"indicators a text":              []byte(`["a/b","AA","1"]`),
		"indicators null":                []byte(`["a/b","AA",null]`),
		"unknown indicator":              []byte(`["a/b","AA",32]`),
		"indicators beyond 32 bits":      []byte(`["a/b","AA",4294967297]`),
		"no media type":                  []byte(`["","AA"]`),
		"media type without a slash":     []byte(`["ab","AA"]`),
		"media type of three":            []byte(`["a/b/c","AA"]`),
		"media type with a space":        []byte(`[" a/b","AA"]`),
		"media type with a line break":   []byte(`["a/b\r\nx: y","AA"]`),
		"media type not ASCII":           []byte(`["ä/b","AA"]`),
		"parameter twice":                []byte(`["a/b;c=1;c=2","AA"]`),
		"parameter without a value":      []byte(`["a/b;c","AA"]`),
		"parameters end in a semicolon":  []byte(`["a/b;","AA"]`),
		"long media type":                []byte(`["a/` + strings.Repeat("b", 300) + `","AA"]`),
		"not UTF-8":                      []byte("{\"\xff\":[\"a/b\",\"AA\"]}"),
		"empty collection":               []byte(`{}`),
		"collection of a type only":      []byte(`{"__cmwc_t":"tag:x,2026:y"}`),
		"collection with a number":       []byte(`{"a":1}`),
		"label twice":                    []byte(`{"a":["a/b","AA"],"a":["a/b","AA"]}`),
		"label twice, escaped":           []byte(`{"a":["a/b","AA"],"\u0061":["a/b","AA"]}`),
		"label twice, deep":              []byte(`{"x":{"a":["a/b","AA"],"a":["a/b","AA"]}}`),
		"empty label":                    []byte(`{"":["a/b","AA"]}`),
		"label with a line break":        []byte(`{"a\n":["a/b","AA"]}`),
		"label with a lone surrogate":    []byte(`{"\ud800":["a/b","AA"]}`),
		"long label":                     []byte(`{"` + strings.Repeat("a", 129) + `":["a/b","AA"]}`),
		"type twice":                     []byte(`{"__cmwc_t":"tag:x,2026:y","__cmwc_t":"tag:x,2026:y","a":["a/b","AA"]}`),
		"type is a record":               []byte(`{"__cmwc_t":["a/b","AA"],"a":["a/b","AA"]}`),
		"type is empty":                  []byte(`{"__cmwc_t":"","a":["a/b","AA"]}`),
		"type is relative":               []byte(`{"__cmwc_t":"x/y","a":["a/b","AA"]}`),
		"type is a relative OID":         []byte(`{"__cmwc_t":".1.2","a":["a/b","AA"]}`),
		"type is an OID with zeros":      []byte(`{"__cmwc_t":"1.02","a":["a/b","AA"]}`),
		"type is an OID of arc 3":        []byte(`{"__cmwc_t":"3.1","a":["a/b","AA"]}`),
		"type with a fragment":           []byte(`{"__cmwc_t":"tag:x,2026:y#z","a":["a/b","AA"]}`),
		"too deep":                       []byte(deep),
		"too many":                       []byte(many),
		"CBOR and more":                  unhex(t, "82 00 41 00 00"),
		"half of CBOR":                   unhex(t, "82 00 42 00"),
		"indefinite record":              unhex(t, "9f 00 41 00 ff"),
		"indefinite collection":          unhex(t, "bf 01 82 00 41 00 ff"),
		"value in pieces":                unhex(t, "82 00 5f 41 00 ff"),
		"CBOR record of one":             unhex(t, "81 00"),
		"CBOR record of four":            unhex(t, "84 00 41 00 01 01"),
		"CBOR no value":                  unhex(t, "82 00 40"),
		"CBOR text value":                unhex(t, "82 00 61 61"),
		"CBOR value of numbers":          unhex(t, "82 00 81 00"),
		"content format beyond 16 bits":  unhex(t, "82 1a 00010000 41 00"),
		"content format negative":        unhex(t, "82 20 41 00"),
		"content format a float":         unhex(t, "82 f9 3c00 41 00"),
		"CBOR indicators 0":              unhex(t, "83 00 41 00 00"),
		"CBOR indicators unknown":        unhex(t, "83 00 41 00 18 20"),
		"CBOR indicators null":           unhex(t, "83 00 41 00 f6"),
		"tag below the range":            unhex(t, "da 63740100 41 00"),
		"tag above the range":            unhex(t, "da 63740200 41 00 00"),
		"tag that no format has":         unhex(t, "da 63740200 41 00"),
		"tag beyond the last":            unhex(t, "da 63750000 41 00"),
		"tag 61":                         unhex(t, "d8 3d 41 00"),
		"tag 1":                          unhex(t, "c1 00"),
		"tag of a bignum":                unhex(t, "c2 41 00"),
		"tag of a text":                  unhex(t, "da 63740101 61 61"),
		"tag of a record":                unhex(t, "da 63740101 82 00 41 00"),
		"tag of nothing":                 unhex(t, "da 63740101 40"),
		"CBOR empty collection":          unhex(t, "a0"),
		"CBOR label twice":               unhex(t, "a2 01 82 00 41 00 01 82 00 41 00"),
		"CBOR label twice, in two forms": unhex(t, "a2 01 82 00 41 00 18 01 82 00 41 00"),
		"CBOR label a byte string":       unhex(t, "a1 41 61 82 00 41 00"),
		"CBOR label a bool":              unhex(t, "a1 f5 82 00 41 00"),
		"CBOR label empty":               unhex(t, "a1 60 82 00 41 00"),
		"CBOR label beyond int64":        unhex(t, "a1 1b ffffffffffffffff 82 00 41 00"),
		"CBOR type a number":             unhex(t, "a2 01 82 00 41 00 68 5f5f636d77635f74 01"),
		"CBOR collection with a number":  unhex(t, "a1 01 01"),
		"CBOR too deep":                  deepCBOR,
		"CBOR too many":                  manyCBOR,
		"CBOR not UTF-8":                 unhex(t, "82 63 61 2f ff 41 00"),
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := cmw.Parse(in)
			if !errors.Is(err, cmw.ErrMessage) || m != nil {
				t.Errorf("got %v, %v, want ErrMessage", m, err)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	good := cmw.Record{MediaType: "a/b", Value: []byte{1}}
	inside := func(m cmw.Message) cmw.Message {
		return cmw.Collection{Items: []cmw.Item{{Label: text("x"), Message: m}}}
	}
	deep := cmw.Message(good)
	for range cmw.MaxDepth + 1 {
		deep = inside(deep)
	}
	both := map[string]cmw.Message{
		"zero record":        cmw.Record{},
		"zero collection":    cmw.Collection{},
		"two types":          cmw.Record{MediaType: "a/b", ContentFormat: 1, Value: []byte{1}},
		"tag of a type":      cmw.Record{MediaType: "a/b", Tagged: true, Value: []byte{1}},
		"media type":         cmw.Record{MediaType: "a", Value: []byte{1}},
		"tag of no format":   cmw.Record{ContentFormat: 65025, Tagged: true, Value: []byte{1}},
		"tag, indicators":    cmw.Record{Tagged: true, Value: []byte{1}, Indicators: 1},
		"unknown indicators": cmw.Record{MediaType: "a/b", Value: []byte{1}, Indicators: math.MaxUint32},
		"too long":           cmw.Record{MediaType: "a/b", Value: make([]byte, cmw.MaxMessage+1)},
		"too deep":           deep,
		"no message":         inside(nil),
		"bad inside":         inside(cmw.Record{}),
		"label twice":        cmw.Collection{Items: []cmw.Item{{Label: text("x"), Message: good}, {Label: text("x"), Message: good}}},
		"reserved label":     cmw.Collection{Items: []cmw.Item{{Label: text("__cmwc_t"), Message: good}}},
		"label of both":      cmw.Collection{Items: []cmw.Item{{Label: cmw.Label{Text: "x", Number: 1}, Message: good}}},
		"type":               cmw.Collection{Type: "x", Items: []cmw.Item{{Label: text("x"), Message: good}}},
	}
	for name, m := range both {
		if b, err := m.MarshalCBOR(); !errors.Is(err, cmw.ErrMessage) || b != nil {
			t.Errorf("%s in CBOR: got %x, %v", name, b, err)
		}
		if b, err := m.MarshalJSON(); !errors.Is(err, cmw.ErrMessage) || b != nil {
			t.Errorf("%s in JSON: got %s, %v", name, b, err)
		}
	}
	onlyCBOR := map[string]cmw.Message{
		"content format": cmw.Record{ContentFormat: 263, Value: []byte{1}},
		"numeric label":  cmw.Collection{Items: []cmw.Item{{Message: good}}},
		"tag inside":     inside(cmw.Record{ContentFormat: 263, Tagged: true, Value: []byte{1}}),
	}
	for name, m := range onlyCBOR {
		if _, err := m.MarshalJSON(); err == nil {
			t.Errorf("%s has a JSON form", name)
		}
		if _, err := m.MarshalCBOR(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := cmw.MaxItems
		m := drawMessage(t, cmw.MaxDepth, &items)
		b, err := m.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		sameAgain(t, m, b)
		if j, err := m.MarshalJSON(); err == nil {
			sameAgain(t, m, j)
		}
		// Deterministic: one message, one encoding.
		var v any
		if err := cbor.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		mode, _ := cbor.CoreDetEncOptions().EncMode()
		if again, err := mode.Marshal(v); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is not deterministic (%v)", b, err)
		}
	})
}

func sameAgain(t interface{ Fatalf(string, ...any) }, want cmw.Message, b []byte) {
	got, err := cmw.Parse(b)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("message (-want +got):\n%s", d)
	}
}

// drawMessage draws a message as [cmw.Parse] would give it: sorted.
func drawMessage(t *rapid.T, depth int, items *int) cmw.Message {
	*items--
	if depth == 0 || *items < 8 || rapid.Bool().Draw(t, "record") {
		r := cmw.Record{Value: rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "value")}
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			r.MediaType = rapid.SampledFrom([]string{"a/b", "application/eat+cwt", `application/x.y+z; p="a b"; q=1`}).Draw(t, "type")
		case 1:
			r.ContentFormat = rapid.Uint16().Draw(t, "format")
		case 2:
			r.ContentFormat, r.Tagged = rapid.Uint16Range(0, 65024).Draw(t, "tag"), true
			return r
		}
		r.Indicators = cmw.Indicators(rapid.Uint32Range(0, 31).Draw(t, "indicators"))
		return r
	}
	c := cmw.Collection{Type: rapid.SampledFrom([]string{"", "1.2.840", "tag:x.example,2026:y", "https://x.example/y"}).Draw(t, "type")}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(-3, 3), 1, 3, rapid.ID[int]).Draw(t, "labels") {
		l := cmw.Label{Number: int64(n)}
		if rapid.Bool().Draw(t, "text") {
			l = text(strings.Repeat("l ", n+4))
		}
		c.Items = append(c.Items, cmw.Item{Label: l, Message: drawMessage(t, depth-1, items)})
	}
	sortLike(c.Items)
	return c
}

func sortLike(items []cmw.Item) {
	for i := range items {
		for j := i; j > 0; j-- {
			a, b := items[j-1].Label, items[j].Label
			if a.Text > b.Text || a.Text == b.Text && a.Number > b.Number {
				items[j-1], items[j] = items[j], items[j-1]
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`["application/eat+jwt","I0faVQ",4]`, `{"a":["a/b","AA"],"__cmwc_t":"1.2.3","b":{"c":["a/b;x=1","AA"]}}`,
	} {
		f.Add([]byte(s))
	}
	for _, s := range []string{"83 63 612f62 44 2347da55 04", "da 6374ffe6 44 2347da55", "a2 01 82 19 fde7 41 00 61 62 a1 20 82 00 41 00"} {
		f.Add(unhex(f, s))
	}
	f.Add([]byte(`["application/vnd.veraison.tsm-report+json","eyJwcm92aWRlciI6InRkeF9ndWVzdCIsIm91dGJsb2IiOiJBQSJ9"]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := cmw.Parse(b)
		if err != nil {
			if !errors.Is(err, cmw.ErrMessage) || m != nil {
				t.Fatalf("got %v, %v, want ErrMessage alone", m, err)
			}
			return
		}
		out, err := m.MarshalCBOR()
		if err != nil {
			t.Fatalf("what was read does not encode: %v", err)
		}
		sameAgain(t, m, out)
		if b[0] == '[' || b[0] == '{' {
			out, err := m.MarshalJSON()
			if err != nil {
				t.Fatalf("what was read does not encode: %v", err)
			}
			sameAgain(t, m, out)
		}
		if ev, err := cmw.Evidence(m); err == nil && (ev.Kind == "" || len(ev.Data) == 0) {
			t.Fatalf("evidence of nothing: %+v", ev)
		}
	})
}
