package maa

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// FuzzRequest: a body is refused, or is a request whose evidence is within bounds.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"quote":"AQIDBA","runtimeData":{"data":"CQ","dataType":"Binary"}}`, `{"report":"AQ==","nonce":18446744073709551615}`,
		`{"quote":"_-8","runtimeData":{"data":"e30","dataType":"JSON"},"initTimeData":{"data":"e30","dataType":"json"},"draftPolicyForAttestation":"x"}`,
		`{"report":"eyJTbnBSZXBvcnQiOiJBQSIsIlZjZWtDZXJ0Q2hhaW4iOiIifQ"}`, `{"quote":"","quote":""}`, `[]`,
	} {
		for typ := range attestationTypes() {
			f.Add(typ, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, typ string, b []byte) {
		q, err := readRequest(typ, b)
		if err != nil {
			return
		}
		if q.Data == nil || len(q.Data) > len(b) || len(q.nonce) > maxNonce || q.hasRuntime != (q.runtime != nil || q.runtimeJSON != nil) {
			t.Errorf("%+v", q)
		}
		for _, raw := range [][]byte{q.runtimeJSON, q.initTimeJSON} {
			if raw != nil && !json.Valid(raw) {
				t.Errorf("not JSON: %q", raw)
			}
		}
		_, _ = q.given()
		_ = q.checkLaunch(tee.Claims{TEE: q.Kind})
	})
}

// FuzzFace: whatever is sent to whatever path, the answer is JSON and no token.
func FuzzFace(f *testing.F) {
	s := New(Config{Caller: func(*http.Request) []byte { return []byte("x") }, Now: func() time.Time { return time.Unix(1e9, 0) }})
	if err := s.Begin(discard{}); err != nil {
		f.Fatal(err)
	}
	f.Add("POST", "/attest/Tpm?api-version=2020-10-01", "localhost", `{"data":"eyJwYXlsb2FkIjp7InR5cGUiOiJhaWtjZXJ0In19"}`)
	f.Add("PUT", "/policies/SgxEnclave?api-version=2020-10-01", "[::1]:1", "eyJhbGciOiJub25lIn0.e30.")
	f.Add("POST", "/azure/x/certificates:add?api-version=2020-10-01", "a b", `"a.b.c"`)
	f.Fuzz(func(t *testing.T, method, target, host, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "https://localhost/", strings.NewReader(body))
		if err != nil {
			return
		}
		if u, err := r.URL.Parse(target); err == nil {
			r.URL = u
		}
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		if w.Code == http.StatusOK && method == http.MethodPut {
			t.Errorf("a policy of the shared provider was set: %q", w.Body)
		}
	})
}

type discard struct{}

func (discard) Append([]byte) error { return nil }

// FuzzState: what is read is written the same.
func FuzzState(f *testing.F) {
	seed, err := state{Name: "x", Algorithm: ES256, Policies: map[string]string{"SgxEnclave": envelopeOf("version= 1.0;")}, Keys: []keyState{{Private: []byte{1}, Certificate: []byte{0x30, 0x82}}}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeState(again)
		if err != nil || !reflect.DeepEqual(s, back) {
			t.Errorf("%+v and %+v, %v", s, back, err)
		}
	})
}

// FuzzReadCase: what is read as a case of a provider was one, and is decided again
// without harm.
func FuzzReadCase(f *testing.F) {
	quote := `{"quote":"AQIDBA","runtimeData":{"data":"e30","dataType":"JSON"}}`
	for typ := range attestationTypes() {
		policy, err := json.Marshal(policyDocument{Version: 1, Type: typ, GraceDays: 3, Policy: envelopeOf("version= 1.0; authorizationrules { => permit(); }; issuancerules {};")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(policy, []byte(quote))
		f.Add(policy, []byte(`{"report":"AQIDBA"}`))
	}
	f.Fuzz(func(t *testing.T, policy, request []byte) {
		ev, p, err := ReadCase(policy, request)
		if err != nil {
			if !errors.Is(err, ErrCase) {
				t.Fatalf("got %v, want ErrCase", err)
			}
			return
		}
		if string(p.Policy) != string(policy) || string(p.Request) != string(request) || p.Grace < 0 {
			t.Fatalf("%+v", p)
		}
		_ = p.Appraise(&attest.Verified{Claims: tee.Claims{TEE: ev.Kind, TCB: tee.TCBUpToDate}})
	})
}
