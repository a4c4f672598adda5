package wasm

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
)

func TestClones(t *testing.T) {
	ctx := t.Context()
	m, err := Load(ctx, nil, xorGuest, Options{MemoryMiB: testMiB})
	if err != nil {
		t.Fatal(err)
	}
	next := func(m *Module) byte {
		t.Helper()
		b, err := m.Call(ctx, remember, []byte{0})
		if err != nil {
			t.Fatal(err)
		}
		return b[0]
	}
	if next(m) != 1 || next(m) != 2 {
		t.Error("the module does not remember")
	}
	c, err := m.Clone(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := next(c); got != 1 {
		t.Errorf("a clone goes on at %d: it shares memory", got)
	}
	if next(m) != 3 {
		t.Error("the clone changed its origin")
	}
	// The engine lives as long as one of them.
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if next(c) != 2 {
		t.Error("closing the origin changed the clone")
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestClonesAtOnce(t *testing.T) {
	m := loaded(t, nil, xorGuest, Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c, err := m.Clone(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			in := []byte("concurrent")
			for range 100 {
				if b, err := c.Call(t.Context(), double, in); err != nil || !bytes.Equal(b, append(bytes.Clone(in), in...)) {
					t.Errorf("got %q, %v", b, err)
				}
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestClosed(t *testing.T) {
	ctx := t.Context()
	m, err := Load(ctx, nil, xorGuest, Options{MemoryMiB: testMiB})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Call(ctx, xor, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Call: %v, want ErrClosed", err)
	}
	if _, err := m.CallInto(ctx, xor, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("CallInto: %v, want ErrClosed", err)
	}
	if _, err := m.Clone(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Clone: %v, want ErrClosed", err)
	}
}

// writerFunc is a writer that does something.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestCallsInsideACall: the module's log line is written during the call, and its
// writer calls the module again.
func TestCallsInsideACall(t *testing.T) {
	var m *Module
	called := 0
	stderr := writerFunc(func(b []byte) (int, error) {
		called++
		if _, err := m.Call(context.Background(), 0, nil); !errors.Is(err, ErrBusy) {
			t.Errorf("Call inside a call: %v, want ErrBusy", err)
		}
		if _, err := m.CallInto(context.Background(), 0, nil, nil); !errors.Is(err, ErrBusy) {
			t.Errorf("CallInto inside a call: %v, want ErrBusy", err)
		}
		if err := m.Close(context.Background()); !errors.Is(err, ErrBusy) {
			t.Errorf("Close inside a call: %v, want ErrBusy", err)
		}
		return len(b), nil
	})
	g := reactor(nil, nil, code(i32Const(1), i32Const(0), i32Const(4), []byte{opCall, 0, opExtend}))
	g.imports = []signature{{module: "cloister_v1", name: "log", params: words(3), results: words(1)}}
	m = loaded(t, nil, g.bytes(), Options{Stderr: stderr})
	for range 2 {
		if b, err := m.Call(t.Context(), 0, nil); err != nil || len(b) != 0 {
			t.Errorf("the outer call: %x, %v", b, err)
		}
		if n, err := m.CallInto(t.Context(), 0, nil, nil); err != nil || n != 0 {
			t.Errorf("the outer call: %d, %v", n, err)
		}
	}
	if called != 4 {
		t.Errorf("%d calls from inside, want 4", called)
	}
}
