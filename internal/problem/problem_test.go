package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var failures = []tee.Failure{{Code: "debug", Claim: "debug", Want: "false", Got: "true", Hint: "start it without debug"}, {Code: "svn"}}

func TestFrom(t *testing.T) {
	own := New(http.StatusConflict, "exists", "a key of that name exists", "choose another name")
	cases := []struct {
		name string
		err  error
		want *Problem
	}{
		{"a problem", own, own},
		{"a problem, wrapped", fmt.Errorf("put key: %w", own), own},
		{"appraisal", &attest.AppraisalError{Policy: "secret name", Failures: failures},
			&Problem{Status: 403, Code: "refused", Title: "Forbidden", Detail: "the appraisal policy refuses this evidence", Failures: failures}},
		{"verification", fmt.Errorf("release: %w", &tee.VerifyError{Kind: tee.SNP, Failures: failures}),
			&Problem{Status: 403, Code: "not_verified", Title: "Forbidden", Detail: "the evidence does not verify", Failures: failures}},
		{"token", &attest.TokenError{Failures: failures},
			&Problem{Status: 403, Code: "token_refused", Title: "Forbidden", Detail: "the attestation result is refused", Failures: failures}},
		{"device away", &tee.Error{Code: tee.CodeUnavailable, Op: "ask the TEE", Hint: "try again", Err: os.ErrDeadlineExceeded},
			&Problem{Status: 503, Code: "unavailable", Title: "Service Unavailable", Detail: "ask the TEE", Hint: "try again"}},
		{"rollback", &tee.Error{Code: tee.CodeRollback, Op: "open state log", Err: os.ErrInvalid},
			&Problem{Status: 500, Code: "rollback", Title: "Internal Server Error", Detail: "open state log"}},
		{"anything else", errors.New("dial tcp 10.0.0.7: token=hunter2"),
			&Problem{Status: 500, Code: "internal", Title: "Internal Server Error", Hint: "see the server's log"}},
		{"nothing", nil, &Problem{Status: 500, Code: "internal", Title: "Internal Server Error", Hint: "see the server's log"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.want.Type = TypePrefix + c.want.Code
			if d := cmp.Diff(c.want, From(c.err)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// answer is the response that a client gets of an error.
func answer(t *testing.T, err error) *http.Response {
	t.Helper()
	rec := httptest.NewRecorder()
	Write(rec, err)
	return rec.Result()
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []*Problem{
		New(http.StatusNotFound, "not_found", "no such key", "list yours"), New(http.StatusTeapot, "teapot", "", ""),
		{Type: TypePrefix + "refused", Title: "Forbidden", Status: 403, Detail: "no", Code: "refused", Failures: failures},
	} {
		r := answer(t, want)
		if r.StatusCode != want.Status || r.Header.Get("Content-Type") != ContentType || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v", r.StatusCode, r.Header)
		}
		got := Read(r)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if text := got.Error(); text == "" || (want.Detail != "" && text != want.Detail) {
			t.Errorf("error text %q", text)
		}
	}
}

// What a request held, and what only the server should know, is in no answer.
func TestNeverEchoes(t *testing.T) {
	const secret = "hunter2"
	for name, err := range map[string]error{
		"plain": errors.New("parse " + secret), "wrapped": fmt.Errorf("a: %w", fmt.Errorf("b %s: %w", secret, io.ErrUnexpectedEOF)),
		"JSON":                 second(json.Marshal(func() {})),
		"cause of a TEE":       &tee.Error{Code: tee.CodeSealed, Op: "unseal", Err: errors.New(secret)},
		"policy's name":        &attest.AppraisalError{Policy: secret, Failures: failures},
		"context of a refusal": fmt.Errorf("release %s: %w", secret, &tee.VerifyError{Failures: failures}),
		"joined":               errors.Join(errors.New(secret), &attest.TokenError{Failures: failures}),
	} {
		b, err := io.ReadAll(answer(t, err).Body)
		if err != nil || strings.Contains(string(b), secret) {
			t.Errorf("%s: %s", name, b)
		}
		if !json.Valid(b) {
			t.Errorf("%s: not JSON: %s", name, b)
		}
	}
}

func second(_ any, err error) error { return err }

// Whatever an intermediary answers, the client gets a problem, with the status of
// the response and not the one that the body claims.
func TestReadOtherAnswers(t *testing.T) {
	respond := func(body io.Reader) *http.Response {
		return &http.Response{StatusCode: 502, Status: "502 Bad Gateway", Body: io.NopCloser(body)}
	}
	for name, body := range map[string]io.Reader{
		"empty": strings.NewReader(""), "HTML": strings.NewReader("<html>bad gateway</html>"), "a list": strings.NewReader("[]"), "null": strings.NewReader("null"),
		"no code": strings.NewReader(`{"title":"x","status":200}`), "broken": iotest.ErrReader(io.ErrUnexpectedEOF),
		"endless": io.MultiReader(strings.NewReader(`{"code":"x","detail":"`), endless{}),
	} {
		got := Read(respond(body))
		want := New(502, "http_status", "the server answered 502 Bad Gateway", "")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if got := Read(respond(strings.NewReader(`{"code":"x","status":200}`))); got.Status != 502 || got.Code != "x" {
		t.Errorf("%+v", got)
	}
}

// endless is a body that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	return len(b), nil
}

func FuzzRead(f *testing.F) {
	f.Add(`{"type":"t","title":"x","status":403,"detail":"d","code":"refused","failures":[{"code":"a"}]}`)
	f.Add(`{"code":1}`)
	f.Fuzz(func(t *testing.T, body string) {
		p := Read(&http.Response{StatusCode: 403, Status: "403 Forbidden", Body: io.NopCloser(strings.NewReader(body))})
		if p.Status != 403 || p.Code == "" {
			t.Fatalf("%+v", p)
		}
		if d := cmp.Diff(p, Read(answer(t, p)), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}
