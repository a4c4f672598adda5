package attest_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
)

// members are names that the tests take.
func members() []string { return []string{"a", "b", "quote", "é", ""} }

// slowly is SplitObject by encoding/json.
func slowly(b []byte) (map[string]json.RawMessage, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !json.Valid(b) {
		return nil, false
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		name, _ := d.Token()
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, false
		}
		_, twice := out[name.(string)]
		known := false
		for _, m := range members() {
			known = known || m == name
		}
		if twice || !known {
			return nil, false
		}
		out[name.(string)] = v
	}
	return out, true
}

func checkSplit(t *testing.T, b []byte) {
	t.Helper()
	want, good := slowly(b)
	got, err := attest.SplitObject(b, members()...)
	if (err == nil) != good || len(got) != len(want) {
		t.Fatalf("%q: %v, %v, want %v", b, got, err, want)
	}
	for name, raw := range want {
		if !bytes.Equal(got[name], raw) {
			t.Fatalf("%q: %q is %q, want %q", b, name, got[name], raw)
		}
		var s string
		isText := json.Unmarshal(raw, &s) == nil
		if text, err := attest.Text(got[name]); (err == nil) != isText || text != s {
			t.Fatalf("%q: %q is the text %q, %v, want %q", b, name, text, err, s)
		}
	}
}

func splitSeeds() []string {
	return []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":"x","b":[{"c":"]}\""},null],"quote":{"d":{}}}`, `{"a" : -1.5e3 , "b":true}`, "{\"a\":\"\\u00e9\\\"\",\n\t\"é\":\"\xff\"}",
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"c":1}`, `{"A":1}`, `{"a":1}x`, `{"a":1} {}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":01}`, `{"a":"`, `{"a":"\`, `{"a":"\"`, `{"a":"x"y}`,
		`{"a":[}`, `{"a":]}`, `{"a":{]}`, "{\"a\":\"\x01\"}", `{"a":tru}`, `{"a":"\x"}`, `[]`, `"a"`, `null`, ``, `{`, `{"a":1 "b":2}`, `{a:1}`, `{"":""}`, `{"a":"` + strings.Repeat("QUJD", 2000) + `"}`,
	}
}

// TestSplitObject: it gives what encoding/json does, and refuses what that refuses.
func TestSplitObject(t *testing.T) {
	for _, seed := range splitSeeds() {
		for n := range len(seed) + 1 {
			if n > 100 && n < len(seed)-3 {
				continue
			}
			checkSplit(t, []byte(seed[:n]))
		}
	}
}

// TestSplitObjectOfEscapes: what an attacker sends takes no longer than other bytes.
func TestSplitObjectOfEscapes(t *testing.T) {
	for _, piece := range []string{`\a`, `\"`, `\\`, `"`, `[`, `{"a":`} {
		checkSplit(t, []byte(`{"a":"`+strings.Repeat(piece, 1<<19/len(piece))+`"}`))
		checkSplit(t, []byte(`{"a":`+strings.Repeat(piece, 1<<19/len(piece))+`}`))
	}
}

func FuzzSplitObject(f *testing.F) {
	for _, seed := range splitSeeds() {
		f.Add([]byte(seed))
	}
	f.Fuzz(checkSplit)
}

// BenchmarkSplitObject reads a body with evidence, and once more by encoding/json.
func BenchmarkSplitObject(b *testing.B) {
	body := []byte(`{"quote":"` + strings.Repeat("QUJD", 1600) + `"}`)
	b.Run("split", func(b *testing.B) {
		for b.Loop() {
			m, err := attest.SplitObject(body, "quote")
			if err != nil {
				b.Fatal(err)
			}
			if s, err := attest.Text(m["quote"]); err != nil || len(s) != 6400 {
				b.Fatal(err)
			}
		}
	})
	b.Run("exact", func(b *testing.B) {
		for b.Loop() {
			var v struct {
				Quote string `json:"quote"`
			}
			if err := attest.DecodeExact(body, &v, "quote"); err != nil || len(v.Quote) != 6400 {
				b.Fatal(err)
			}
		}
	})
}
