package flatjson_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/enclave/internal/flatjson"
)

func TestParse(t *testing.T) {
	got, err := flatjson.Parse([]byte(" {\"a\" : \"x\\n\\u00e9\\ud83d\\ude00\\/\\ud83d\", \"b\":true,\"c\":[\"1\", \"\"] ,\"d\":[], \"e\":false}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := flatjson.Object{"a": "x\né😀/�", "b": true, "c": []string{"1", ""}, "d": []string{}, "e": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.String("a") == "" || !got.Bool("b") || len(got.List("c")) != 2 || got.String("b") != "" || got.Bool("none") || got.List("a") != nil {
		t.Error("an accessor gives the wrong value")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "null", "[]", "{", `{"a"}`, `{"a":1}`, `{"a":null}`, `{"a":{}}`, `{"a":[1]}`, `{"a":"x}`, `{"a":"\x"}`, `{"a":"\u12"}`,
		`{"a":"\u+123"}`, "{\"a\":\"\n\"}", `{"a":"x",}`, `{"a":["x",]}`, `{"a":"x"}{}`, `{"a":"x","a":"y"}`, `{a:"x"}`, `{"a":"\`, `{"a":tru`,
	} {
		if got, err := flatjson.Parse([]byte(s)); !errors.Is(err, flatjson.ErrSyntax) {
			t.Errorf("Parse(%q) = %v, %v; want ErrSyntax", s, got, err)
		}
	}
}

// FuzzParse: what Parse accepts, encoding/json reads as the same; what
// encoding/json writes, Parse reads.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":"x\n","b":true,"c":["1","\ud83d\ude00"]}`), "text")
	f.Add([]byte(`{"a":"\ud83d\u0041"}`), "\x00\xff<>&\u2028")
	f.Fuzz(func(t *testing.T, b []byte, s string) {
		if got, err := flatjson.Parse(b); err == nil {
			var want map[string]any
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatalf("accepted %q: %v", b, err)
			}
			for name, v := range got {
				if list, ok := v.([]string); ok {
					anys := make([]any, len(list))
					for i := range list {
						anys[i] = list[i]
					}
					v = anys
				}
				if diff := cmp.Diff(want[name], v); diff != "" {
					t.Fatalf("%q: %s", b, diff)
				}
			}
		}
		type object struct {
			S string   `json:"s"`
			B bool     `json:"b"`
			L []string `json:"l"`
		}
		in, err := json.Marshal(object{s, true, []string{s, ""}})
		if err != nil {
			t.Fatal(err)
		}
		var want object
		if err := json.Unmarshal(in, &want); err != nil {
			t.Fatal(err)
		}
		got, err := flatjson.Parse(in)
		if err != nil {
			t.Fatalf("refused %s: %v", in, err)
		}
		if diff := cmp.Diff(want, object{got.String("s"), got.Bool("b"), got.List("l")}); diff != "" {
			t.Fatal(diff)
		}
	})
}
