package term_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func refusal() term.Node {
	return term.Node{Text: "policy", Result: term.False, Terms: []term.Node{
		{Text: "configurationrules", Result: term.True},
		{Text: "any of", Result: term.False, Terms: []term.Node{
			{Text: `debug == false`, Position: "3:4", Claim: "debug", Result: term.False, Want: "false", Got: "true"},
			{Text: `svn >= 3`, Claim: "svn", Result: term.NotReached, Want: ">= 3"},
			{Text: `tcb == "UpToDate"`, Result: term.Error, Got: "no such function"},
		}},
	}}
}

func Example() {
	n := refusal()
	fmt.Println(n)
	first, _ := n.FirstRefusal()
	fmt.Println(first)
	// Output:
	// false  policy
	//   true  configurationrules
	//   false  any of
	//     false  debug == false (3:4): want false, got true
	//     not_reached  svn >= 3
	//     error  tcb == "UpToDate": got no such function
	// term 2.1: debug: want false, got true
}

func TestRefusals(t *testing.T) {
	var got []string
	for _, l := range refusal().Refusals() {
		got = append(got, l.String())
	}
	want := []string{"term 2.1: debug: want false, got true", `term 2.3: tcb == "UpToDate": got no such function`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for name, n := range map[string]term.Node{"zero": {}, "true": {Result: term.True, Terms: []term.Node{{Result: term.False}}}} {
		if l, ok := n.FirstRefusal(); ok {
			t.Errorf("%s: got %v, want nothing to blame", name, l)
		}
	}
	alone := term.Node{Text: "no rule permits", Result: term.False}
	if l, ok := alone.FirstRefusal(); !ok || l.String() != "no rule permits" {
		t.Errorf("got %v %v, want the root itself", l, ok)
	}
}

func TestFailures(t *testing.T) {
	want := []tee.Failure{
		{Code: "rule", Claim: "debug", Want: "false", Got: "true", Hint: "see 3:4 of the policy"},
		{Code: "rule", Claim: `tcb == "UpToDate"`, Got: "no such function"},
	}
	if d := cmp.Diff(want, refusal().Failures("rule")); d != "" {
		t.Error(d)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(refusal())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"text":"policy","result":"false","terms":[{"text":"configurationrules","result":"true"},{"text":"any of","result":"false","terms":[` +
		`{"text":"debug == false","position":"3:4","claim":"debug","result":"false","want":"false","got":"true"},` +
		`{"text":"svn \u003e= 3","claim":"svn","result":"not_reached","want":"\u003e= 3"},` +
		`{"text":"tcb == \"UpToDate\"","result":"error","got":"no such function"}]}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back term.Node
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(refusal(), back); d != "" {
		t.Error(d)
	}
	if err := json.Unmarshal([]byte(`{"result":"maybe"}`), &back); err == nil {
		t.Error("an unknown result was read")
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "null"}, {true, "true"}, {"a\nb", "\"a\uFFFDb\""}, {int64(-3), "-3"}, {uint64(3), "3"}, {1.5, "1.5"}, {7, "7"},
		{[]any{1, 2}, "a list of 2"}, {map[string]any{}, "an object of 0"}, {json.Number("12"), "12"}, {struct{}{}, "a struct {}"},
	} {
		if got := term.Value(c.v); got != c.want {
			t.Errorf("Value(%v) = %s, want %s", c.v, got, c.want)
		}
	}
}

// A tree that somebody made as large as possible stays within the bounds.
func TestBounds(t *testing.T) {
	deep := term.Node{Text: strings.Repeat("x", 5000), Result: term.False}
	for range 200 {
		deep = term.Node{Text: "deep", Result: term.False, Terms: []term.Node{deep}}
	}
	wide := term.Node{Text: "wide", Result: term.False, Terms: make([]term.Node, 10_000)}
	for i := range wide.Terms {
		wide.Terms[i] = term.Node{Text: strings.Repeat("y", 5000), Result: term.False, Terms: []term.Node{deep}}
	}
	if got := strings.Count(wide.String(), "\n"); got > term.MaxLines {
		t.Errorf("%d lines", got)
	}
	b, err := json.Marshal(wide)
	if err != nil || len(b) > term.MaxNodes*1024 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if got := len(wide.Refusals()); got != term.MaxLeaves {
		t.Errorf("%d leaves, want %d", got, term.MaxLeaves)
	}
}

func TestCleanIsPrintableAndBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, n := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s")), rapid.IntRange(-1, 40).Draw(t, "n")
		got := term.Clean(s, n)
		if len(got) > max(n, 0) || !utf8.ValidString(got) {
			t.Fatalf("Clean(%q, %d) = %q", s, n, got)
		}
		for _, r := range got {
			if r != utf8.RuneError && !unicode.IsPrint(r) {
				t.Fatalf("Clean(%q, %d) = %q", s, n, got)
			}
		}
	})
}
