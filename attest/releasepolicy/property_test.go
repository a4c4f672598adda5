package releasepolicy_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/attest/releasepolicy"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawCondition(t *rapid.T, depth int) map[string]any {
	if depth > 0 && rapid.IntRange(0, 2).Draw(t, "group") == 0 {
		return map[string]any{rapid.SampledFrom([]string{"anyOf", "allOf"}).Draw(t, "word"): drawList(t, depth-1)}
	}
	claim := rapid.SampledFrom([]string{"a", "b", "a.b", "a.b.c", "o.p", "é~/"}).Draw(t, "claim")
	switch rapid.IntRange(0, 2).Draw(t, "operator") {
	case 0:
		return map[string]any{"claim": claim, "exists": rapid.Bool().Draw(t, "exists")}
	case 1:
		op := rapid.SampledFrom([]string{"less", "lessOrEquals", "greater", "greaterOrEquals"}).Draw(t, "op")
		return map[string]any{"claim": claim, op: rapid.Float64Range(-1e6, 1e6).Draw(t, "number")}
	}
	v := rapid.OneOf(rapid.Just[any](true), rapid.Just[any]("x\"<\u2028"), rapid.Map(rapid.Int64(), func(n int64) any { return n })).Draw(t, "value")
	return map[string]any{"claim": claim, rapid.SampledFrom([]string{"equals", "notEquals"}).Draw(t, "op"): v}
}

func drawList(t *rapid.T, depth int) []any {
	var out []any
	for range rapid.IntRange(1, 3).Draw(t, "length") {
		out = append(out, drawCondition(t, depth))
	}
	return out
}

// Any policy prints as one that parses to the same, decides the same when asked
// twice, and never decides for a release that its explanation contradicts.
func TestPrintedPoliciesParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := json.Marshal(map[string]any{"version": "1.0.0", "anyOf": []any{
			map[string]any{"authority": "https://a.example/", "allOf": drawList(t, 3)}, map[string]any{"authority": "b", "anyOf": drawList(t, 3)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := releasepolicy.Parse(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		q, err := releasepolicy.Parse([]byte(p.String()))
		if err != nil || q.String() != p.String() || q.Digest() != p.Digest() {
			t.Fatalf("%v\n%s", err, p)
		}
		in := map[string]any{"a": rapid.OneOf(rapid.Just[any](true), rapid.Just[any](7), rapid.Just[any](map[string]any{"b": 1.5})).Draw(t, "a"), "a.b": "x"}
		for _, authority := range []string{"https://a.example", "b", "c"} {
			ok, n := p.Evaluate(in, authority)
			again, m := q.Evaluate(in, authority)
			if d := cmp.Diff(n, m); ok != again || d != "" {
				t.Fatal(ok, again, d)
			}
			check(t, ok, n, p.Explain(in, authority))
			if ok && authority == "c" {
				t.Fatal("released to an authority that the policy does not name")
			}
		}
	})
}

// check holds what is true of every decision.
func check(t interface{ Fatalf(string, ...any) }, ok bool, n, full term.Node) {
	if (n.Result == term.True) != ok || (full.Result == term.True) != ok {
		t.Fatalf("released %v, explained\n%v\n%v", ok, n, full)
	}
	if l, blamed := n.FirstRefusal(); blamed == ok {
		t.Fatalf("released %v, to blame %v\n%v", ok, l, n)
	}
}

func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		one(`{"claim":"a.b","equals":"x"}`), one(`{"anyOf":[{"claim":"n","greater":-1.5e3},{"allOf":[{"claim":"b","exists":false}]}]}`),
		`{"version":"1.0.0","allOf":[{"authority":"a/","anyOf":[{"claim":"n","lessOrEquals":18446744073709551615}]}]}`, `{"version":`, `[]`, `{"anyOf":[]}`,
		`{"version":"1.0.0","anyOf":[{"authority":"https://a//","allOf":[{"claim":"a","exists":true}]}]}`,
	} {
		f.Add([]byte(s), []byte(token), issuer)
	}
	f.Fuzz(func(t *testing.T, policy, in []byte, authority string) {
		p, err := releasepolicy.Parse(policy)
		if err != nil {
			if p != nil || !errors.Is(err, releasepolicy.ErrPolicy) {
				t.Fatalf("got %v, %v", p, err)
			}
			return
		}
		q, err := releasepolicy.Parse([]byte(p.String()))
		if err != nil && len(p.String()) <= releasepolicy.MaxPolicy || err == nil && q.String() != p.String() {
			t.Fatalf("%v\n%s\nbecame\n%s", err, p, q)
		}
		var claims map[string]any
		if json.Unmarshal(in, &claims) != nil {
			claims = map[string]any{"a": true}
		}
		ok, n := p.Evaluate(claims, authority)
		check(t, ok, n, p.Explain(claims, authority))
		if ok && authority == "" {
			t.Fatal("released without an authority")
		}
	})
}

// A policy of ten terms, flat and nested.
func BenchmarkEvaluate(b *testing.B) {
	p := parse(b, one(`{"claim":"x-ms-attestation-type","equals":"azurevm"},{"claim":"secureboot","equals":true},{"claim":"svn","greaterOrEquals":2},
		{"claim":"text","equals":"3"},{"claim":"missing","exists":false},{"claim":"a.c","equals":"nested"},{"claim":"a.b2.c","equals":7},
		{"claim":"x-ms-isolation-tee.x-ms-attestation-type","equals":"sevsnpvm"},{"claim":"x-ms-isolation-tee.x-ms-compliance-status","equals":"azure-compliant-cvm"},
		{"claim":"x-ms-isolation-tee.x-ms-runtime.vm-configuration.secure-boot","equals":true}`))
	in := claims(b, token)
	b.ReportAllocs()
	for b.Loop() {
		if ok, n := p.Evaluate(in, issuer); !ok {
			b.Fatal(n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	policy := []byte(one(`{"claim":"x-ms-attestation-type","equals":"azurevm"},{"claim":"svn","greaterOrEquals":2}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := releasepolicy.Parse(policy); err != nil {
			b.Fatal(err)
		}
	}
}
