package jmespath_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/azurepolicy/internal/jmespath"
)

const events = `{"Events":[
 {"EventSeq":1,"PcrIndex":7,"EventTypeString":"EV_EFI_VARIABLE_DRIVER_CONFIG","ProcessedData":{"UnicodeName":"SecureBoot","VariableData":"AQ"}},
 {"EventSeq":2,"PcrIndex":12,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"TB":{"CI":true,"BL":{"Value":0},"MODS":[{"PATH":"\\Windows\\a.sys"},{"PATH":"b.sys"}]}}},
 {"EventSeq":3,"PcrIndex":13,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"TB":{"CI":false,"BL":{"Value":4}}}}],
 "m":{"b":2,"a":1,"c":null},"s":"text","n":[3,1,2.5,-7],"w":["b","a"],"empty":[],"big":18446744073709551615,"a-b":{"c":1}}`

func run(query, doc string) (string, error) {
	q, err := jmespath.Compile(query)
	if err != nil {
		return "", err
	}
	budget := 100_000
	v, err := jmespath.Decode(doc, &budget)
	if err != nil {
		return "", err
	}
	if v, err = q.Search(v, &budget); err != nil {
		return "", err
	}
	return jmespath.Encode(v, &budget)
}

func TestSearch(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"s", `"text"`}, {"missing", "null"}, {"m.a", "1"}, {`"a-b".c`, "1"}, {"m.missing.deeper", "null"},
		{"n[0]", "3"}, {"n[-1]", "-7"}, {"n[9]", "null"}, {"s[0]", "null"}, {"big", "18446744073709551615"},
		{"Events[*].EventSeq", "[1,2,3]"}, {"m.*", "[1,2]"}, {"*.a", "[1]"}, {"Events[].PcrIndex", "[7,12,13]"},
		{"Events[?PcrIndex == `12`].EventSeq", "[2]"}, {"Events[?EventSeq > `1` && PcrIndex != `13`].EventSeq", "[2]"},
		{"Events[?EventTypeString == 'EV_EVENT_TAG' && (PcrIndex == `12` || PcrIndex == `13`)].ProcessedData.TB.CI", "[true,false]"},
		{"Events[?PcrIndex == '13']", "[]"}, // a string is no number
		{"Events[?ProcessedData.UnicodeName == 'SecureBoot'] | length(@) == `1` && @[0].ProcessedData.VariableData == 'AQ'", "true"},
		{"Events[*].ProcessedData.TB.BL | @[? Value != `0`].Value | @[0]", "4"},
		{"Events[*].ProcessedData.TB.BL.Value | @[-1]", "4"},
		{"Events[].ProcessedData.TB.MODS[] | [?equals_ignore_case(PATH, '\\windows\\A.sys')] | @ != `null`", "true"},
		{"Events[?ProcessedData.TB.CI != null] | length(@)", "2"}, // "null" is a field that is not there
		{"Events[0] | @.{EventSeq:EventSeq, Name:ProcessedData.UnicodeName}", `{"EventSeq":1,"Name":"SecureBoot"}`},
		{"Events[0].[EventSeq,PcrIndex]", "[1,7]"}, {"missing.{a:b}", "null"}, {"[s,m.a]", `["text",1]`},
		{"!s", "false"}, {"!missing", "true"}, {"missing || s", `"text"`}, {"empty && s", "[]"},
		{"n[0] < n[1]", "false"}, {"n[1] <= `1`", "true"}, {"s < `1`", "null"}, {"big > `18446744073709551614`", "true"},
		{"`1.0` == `1`", "true"}, {"m == `{\"c\":null,\"a\":1,\"b\":2}`", "true"}, {"n == w", "false"},
		{"contains(s, 'ex')", "true"}, {"contains(w, 'a')", "true"}, {"contains(n, `4`)", "false"},
		{"starts_with(s, 'te')", "true"}, {"ends_with(s, 'te')", "false"}, {"join('-', w)", `"b-a"`},
		{"keys(m)", `["a","b","c"]`}, {"values(m)", "[1,2,null]"}, {"length(s)", "4"}, {"length(m)", "3"},
		{"max(n)", "3"}, {"min(n)", "-7"}, {"max(w)", `"b"`}, {"max(empty)", "null"}, {"sort(n)", "[-7,1,2.5,3]"}, {"sort(w)", `["a","b"]`},
		{"to_string(m)", `"{\"a\":1,\"b\":2,\"c\":null}"`}, {"to_string(s)", `"text"`}, {"type(n)", `"array"`}, {"not_null(missing, m.a)", "1"},
		{"@ | s", `"text"`}, {"(s)", `"text"`}, {"`\"q\\`\"`", "\"q`\""}, {`'it\'s'`, `"it's"`}, {"[[n[0]]][]", "[3]"},
		{"Events[?EventSeq == `1`][].PcrIndex", "[7]"}, {"Events[?EventSeq < `9`] | [*].EventSeq", "[1,2,3]"},
	} {
		got, err := run(c.query, events)
		if err != nil || got != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.query, got, err, c.want)
		}
	}
}

func TestRefusedQueries(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"", "empty"}, {"a[1:2]", "slices"}, {"a[:2]", "slices"}, {"sort_by(a, &b)", "the function sort_by is not supported"},
		{"a[?&b]", "expression references"}, {"a[", "want an index"}, {"a.", "want a name"}, {"a b", "not expected"}, {"a-b", "not an index"},
		{"PcrIndex == 20", "between backticks: `20`"}, {"'open", "not closed"}, {"`{`", "is JSON"}, {"`nope`", "is JSON"}, {`"\q"`, "quoted name"},
		{"length()", "1 argument"}, {"contains(a)", "2 arguments"}, {"not_null()", "at least 1"}, {"a[*", `want "]"`}, {"{a:b,a:c}", "twice"},
		{"{a}", `want ":"`}, {"{}", "member's name"}, {"[]a", "not expected"}, {"#", "has no meaning"}, {"a[?b", "end of the filter"},
		{"(a", `want ")"`}, {"a[-]", "not an index"}, {"a |", "ends too early"}, {strings.Repeat("(", 100), "deeper"}, {strings.Repeat("!", 2000) + "a", "tokens"},
		{strings.Repeat("a", 5000), "at most"}, {"\xff", "UTF-8"}, {"a[99999999999]", "not an index"},
	} {
		_, err := run(c.query, `{}`)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: got %v, want %q", c.query, err, c.want)
		}
		if _, ok := errors.AsType[*jmespath.SyntaxError](err); !ok {
			t.Errorf("%.40q: got %T", c.query, err)
		}
	}
}

func TestRefusedSearches(t *testing.T) {
	for _, c := range []struct{ query, doc, want string }{
		{"length(a)", `{}`, "length: want a string, an array or an object, got null"}, {"join('', @)", `[1]`, "an array of strings"},
		{"keys(@)", `[]`, "an object"}, {"max(@)", `[1,"a"]`, "numbers or one of strings"}, {"starts_with(@, 'a')", `1`, "two strings"},
		{"contains(@, 'a')", `{}`, "a string or an array"}, {"values(@)", `1`, "an object"}, {"sort(@)", `{}`, "an array"}, {"join(@, @)", `1`, "a string first"},
		{"a", `{"a":1,"a":2}`, "twice"}, {"a", `{"a":1}x`, "more follows"}, {"a", `{`, "not JSON"}, {"a", `[1,]`, "not JSON"}, {"a", "\"\xff\"", "UTF-8"},
		{"a", strings.Repeat("[", 100) + strings.Repeat("]", 100), "deeper"}, {"a", "", "not JSON"}, {"a", "{1:2}", "not JSON"},
	} {
		if _, err := run(c.query, c.doc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s over %.40s: got %v, want %q", c.query, c.doc, err, c.want)
		}
	}
}

// Results that share parts are small in memory and large when they are written.
func TestBudget(t *testing.T) {
	doubled := strings.TrimSuffix(strings.Repeat("[@,@]|", 60), "|")
	for _, q := range []string{doubled, doubled + "|to_string(@)", doubled + "==" + "`1`", "[" + doubled + "," + doubled + "]|@[0]==@[1]"} {
		if _, err := run(q, `"x"`); !errors.Is(err, jmespath.ErrBudget) && q != doubled+"==`1`" {
			t.Errorf("%.60s…: got %v, want the budget", q, err)
		}
	}
	budget := 3
	if _, err := jmespath.Decode(`[1,2,3,4]`, &budget); !errors.Is(err, jmespath.ErrBudget) {
		t.Errorf("got %v, want the budget", err)
	}
}

func FuzzSearch(f *testing.F) {
	for _, q := range []string{"Events[?a == `1` && contains(b, 'c')].d[] | @[0].{x:y}", "*.a[*][0] || !b", `"a-b".[c,d]`, "sort(@) | max(@) <= `2`", "[@,@]|[@,@]|to_string(@)"} {
		f.Add(q, events)
		f.Add(q, `[1,"a",{"b":null}]`)
	}
	f.Fuzz(func(t *testing.T, query, doc string) {
		q, err := jmespath.Compile(query)
		if err != nil {
			return
		}
		budget := 20_000
		v, err := jmespath.Decode(doc, &budget)
		if err != nil {
			return
		}
		out, err := q.Search(v, &budget)
		if err != nil {
			return
		}
		text, err := jmespath.Encode(out, &budget)
		if err != nil {
			return
		}
		budget = 1 << 20
		back, err := jmespath.Decode(text, &budget)
		if err != nil {
			if strings.Contains(err.Error(), "deeper") {
				return
			}
			t.Fatalf("%q is not JSON: %v", text, err)
		}
		if again, _ := jmespath.Encode(back, &budget); again != text {
			t.Fatalf("%q became %q", text, again)
		}
	})
}

func BenchmarkSearch(b *testing.B) {
	q, err := jmespath.Compile("Events[?EventTypeString == 'EV_EVENT_TAG' && (PcrIndex == `12` || PcrIndex == `13`)].ProcessedData.TB.CI")
	if err != nil {
		b.Fatal(err)
	}
	budget := 1 << 20
	doc, err := jmespath.Decode(events, &budget)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		budget = 1 << 20
		if _, err := q.Search(doc, &budget); err != nil {
			b.Fatal(err)
		}
	}
}
