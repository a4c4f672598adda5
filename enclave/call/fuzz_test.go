//go:build !wasip1

package call_test

import (
	"bytes"
	"testing"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
)

// FuzzServe: no bytes of a program make the agent do anything but answer whole
// requests, each once.
func FuzzServe(f *testing.F) {
	for _, r := range []call.Request{
		{Op: call.Self},
		{Op: call.CounterAdvance, To: "signer", Name: "visits", Number: 3, Data: make([]byte, 32)},
		{Op: call.Fail, Name: "parse", Data: []byte("m"), Hint: "h"},
		{Op: "unknown"},
	} {
		f.Add(encoded(f, r))
	}
	f.Add(append(encoded(f, call.Request{Op: call.Self}), 0, 0x10, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		handled, taken := 0, 0
		conn := &stream{in: bytes.NewReader(b)}
		call.Serve(conn, func(r call.Request) call.Answer {
			handled++
			taken += len(r.Op) + len(r.Name) + len(r.Data) + len(r.Hint)
			return call.Answer{Code: tee.CodeUnavailable, Message: "no"}
		})
		if got := answers(t, conn.out.Bytes()); got != handled {
			t.Fatalf("%d answers to %d requests", got, handled)
		}
		if taken > len(b) {
			t.Fatalf("%d bytes of requests out of %d", taken, len(b))
		}
	})
}

// FuzzAnswer: no bytes of an agent break a program; what is not an answer is an
// error.
func FuzzAnswer(f *testing.F) {
	f.Add(encoded(f, call.Answer{Data: []byte("secret")}))
	f.Add(encoded(f, call.Answer{Code: tee.CodeCounter, Message: "m"}))
	f.Add(encoded(f, call.Answer{Identity: &call.Identity{Args: []string{"a"}}, Evidence: &tee.Evidence{Data: []byte{1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := call.NewClient(&stream{in: bytes.NewReader(b)})
		a, err := c.Do(call.Request{Op: call.Self})
		if err == nil && a.Code != "" {
			t.Fatal("a refusal without an error")
		}
		if err != nil && (a.Data != nil || a.Identity != nil || a.Evidence != nil || a.Start != nil) {
			t.Fatal("an answer beside an error")
		}
	})
}
