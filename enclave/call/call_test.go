//go:build !wasip1

package call_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connected returns a client whose questions handle answers. Both end with the
// test.
func connected(t *testing.T, handle func(call.Request) call.Answer) *call.Client {
	t.Helper()
	return against(t, func(conn net.Conn) { call.Serve(conn, handle) })
}

// against returns a client of an agent that behaves as serve does.
func against(t *testing.T, serve func(net.Conn)) *call.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); serve(theirs); _ = theirs.Close() }()
	t.Cleanup(func() { _ = ours.Close(); <-done })
	return call.NewClient(ours)
}

func wantCode(t *testing.T, err error, code tee.Code) {
	t.Helper()
	e, ok := errors.AsType[*tee.Error](err)
	if !ok || e.Code != code {
		t.Errorf("got %v, want a *tee.Error with code %s", err, code)
	}
}

func TestQuestionAndAnswerArriveWhole(t *testing.T) {
	request := call.Request{Op: call.CounterAdvance, To: "signer", Name: "n", Number: 1 << 63, Data: []byte{0, 1}, Hint: "h"}
	answer := call.Answer{
		Data: []byte("data"), Number: 7,
		Evidence: &tee.Evidence{Kind: tee.Software, Data: []byte{1}, Certificates: [][]byte{{2}, {3}}},
		Identity: &call.Identity{TEE: tee.Software, Simulated: true, Measurement: []byte{9}, InstanceID: "i", Args: []string{"a", ""}},
		Start:    &call.Start{Kind: "wasm", Role: "workload", Image: "/i", Args: []string{"x"}, Env: []string{"A=b"}, MemoryMiB: 16},
	}
	c := connected(t, func(r call.Request) call.Answer {
		if diff := cmp.Diff(request, r); diff != "" {
			t.Errorf("the request arrives changed: %s", diff)
		}
		return answer
	})
	got, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(answer, got); diff != "" {
		t.Errorf("the answer arrives changed: %s", diff)
	}
}

// TestRefusalsKeepTheirCode and leave the connection as it was.
func TestRefusalsKeepTheirCode(t *testing.T) {
	c := connected(t, func(r call.Request) call.Answer {
		if r.Op == call.Self {
			return call.Answer{Identity: &call.Identity{InstanceID: "i"}}
		}
		return call.Answer{Code: tee.CodeCounter, Message: "unknown request", Hint: "ask for something else"}
	})
	_, err := c.Do(call.Request{Op: "nonsense", Name: "n"})
	wantCode(t, err, tee.CodeCounter)
	if e, ok := errors.AsType[*tee.Error](err); ok && e.Hint != "ask for something else" {
		t.Errorf("hint %q", e.Hint)
	}
	if a, err := c.Do(call.Request{Op: call.Self}); err != nil || a.Identity == nil {
		t.Errorf("after a refusal: %+v, %v", a, err)
	}
}

// TestTooLongARequestIsNotSent: the connection stays in step.
func TestTooLongARequestIsNotSent(t *testing.T) {
	c := connected(t, func(r call.Request) call.Answer { return call.Answer{Number: uint64(len(r.Data))} })
	_, err := c.Do(call.Request{Op: call.Evidence, Data: make([]byte, call.MaxFrame)})
	wantCode(t, err, tee.CodeParse)
	most := make([]byte, call.MaxFrame-1<<10)
	if a, err := c.Do(call.Request{Op: call.Evidence, Data: most}); err != nil || a.Number != uint64(len(most)) {
		t.Errorf("the longest request: %d, %v", a.Number, err)
	}
}

func TestBrokenConnections(t *testing.T) {
	long := make([]byte, call.MaxFrame)
	for name, serve := range map[string]func(io.Writer){
		"no answer":            func(io.Writer) {},
		"half a length":        func(w io.Writer) { _, _ = w.Write([]byte{0, 0}) },
		"half an answer":       func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 9, 0xa1}) },
		"not CBOR":             func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 1, 0xff}) },
		"an unknown field":     func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 4, 0xa1, 0x18, 0x63, 0}) },
		"a field of two kinds": func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 3, 0xa1, 1, 2}) },
		"too long an answer":   func(w io.Writer) { _ = frame.Write(w, call.Answer{Data: long}) },
		"an empty answer":      func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			c := against(t, func(conn net.Conn) {
				var r call.Request
				for frame.Read(conn, call.MaxFrame, &r) == nil {
					if asked++; asked == 1 {
						serve(conn)
					}
					_ = conn.Close()
				}
			})
			a, err := c.Do(call.Request{Op: call.Secret})
			wantCode(t, err, tee.CodeUnavailable)
			if a.Data != nil {
				t.Error("an answer beside an error")
			}
			// Out of step: nothing that comes now can be the answer.
			_, err = c.Do(call.Request{Op: call.Secret})
			wantCode(t, err, tee.CodeUnavailable)
		})
	}
}

func TestConcurrentQuestions(t *testing.T) {
	c := connected(t, func(r call.Request) call.Answer { return call.Answer{Data: []byte(r.Name), Number: r.Number} })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				name := strconv.Itoa(g) + "/" + strconv.Itoa(i)
				a, err := c.Do(call.Request{Op: call.Secret, Name: name, Number: uint64(i)})
				if err != nil || string(a.Data) != name || a.Number != uint64(i) {
					t.Errorf("asked %s, got %q %d, %v", name, a.Data, a.Number, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestServeEndsAtTheFirstBadRequest(t *testing.T) {
	good := encoded(t, call.Request{Op: call.Self})
	oversize := binary.BigEndian.AppendUint32(nil, call.MaxFrame+1)
	for name, c := range map[string]struct {
		bytes   []byte
		answers int
	}{
		"nothing":          {nil, 0},
		"three":            {bytes.Repeat(good, 3), 3},
		"truncated":        {good[:len(good)-1], 0},
		"oversize":         {append(bytes.Clone(good), oversize...), 1},
		"malformed":        {append([]byte{0, 0, 0, 1, 0xff}, good...), 0},
		"an unknown field": {append([]byte{0, 0, 0, 4, 0xa1, 0x18, 0x63, 0}, good...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &stream{in: bytes.NewReader(c.bytes)}
			call.Serve(conn, func(call.Request) call.Answer { return call.Answer{Number: 1} })
			if got := answers(t, conn.out.Bytes()); got != c.answers {
				t.Errorf("%d answers, want %d", got, c.answers)
			}
		})
	}
}

// stream is a connection whose other end has sent everything already.
type stream struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *stream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *stream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *stream) Close() error                { return nil }

func encoded(tb testing.TB, v any) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := frame.Write(&b, v); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// answers counts the answers in b, which holds nothing else.
func answers(tb testing.TB, b []byte) int {
	tb.Helper()
	for n, r := 0, bytes.NewReader(b); ; n++ {
		var a call.Answer
		if err := frame.Read(r, call.MaxFrame, &a); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}
