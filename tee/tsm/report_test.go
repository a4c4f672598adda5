package tsm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tsm"
	"github.com/cloister-cc/cloister/tee/tsm/tsmtest"
)

func echo(b []byte) ([]byte, error) { return append([]byte("report over "), b...), nil }

func TestReport(t *testing.T) {
	k := &tsmtest.Kernel{Provider: tsm.SEVGuest, Report: echo, Auxiliary: func() []byte { return []byte("certificates") }}
	c := tsm.Client{Files: k}
	data := [64]byte{1, 2, 3}
	for range 2 {
		r, err := c.Report(t.Context(), data)
		if err != nil || r.Provider != tsm.SEVGuest || !bytes.Equal(r.Evidence, append([]byte("report over "), data[:]...)) || string(r.Auxiliary) != "certificates" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if p, err := c.Provider(); err != nil || p != tsm.SEVGuest {
		t.Errorf("provider %q, %v", p, err)
	}
	k.Auxiliary = nil
	if r, err := c.Report(t.Context(), data); err != nil || r.Auxiliary != nil {
		t.Errorf("without auxiliary data: %+v, %v", r, err)
	}
	if n := k.Entries(); n != 0 {
		t.Errorf("%d entries are left behind", n)
	}
}

// TestUnavailable: whatever goes wrong has the code, and no entry stays.
func TestUnavailable(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		k   *tsmtest.Kernel
		ctx context.Context
	}{
		"no TEE":        {&tsmtest.Kernel{}, t.Context()},
		"device busy":   {&tsmtest.Kernel{Provider: "x", Report: func([]byte) ([]byte, error) { return nil, syscall.EBUSY }}, t.Context()},
		"empty report":  {&tsmtest.Kernel{Provider: "x", Report: func([]byte) ([]byte, error) { return nil, nil }}, t.Context()},
		"endless":       {&tsmtest.Kernel{Provider: "x", Report: func([]byte) ([]byte, error) { return make([]byte, 64<<10+1), nil }}, t.Context()},
		"somebody else": {&tsmtest.Kernel{Provider: "x", Report: echo, Interfere: true}, t.Context()},
		"canceled":      {&tsmtest.Kernel{Provider: "x", Report: echo}, canceled},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tsm.Client{Files: c.k}.Report(c.ctx, [64]byte{})
			if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable {
				t.Errorf("%v", err)
			}
			if n := c.k.Entries(); n != 0 {
				t.Errorf("%d entries are left behind", n)
			}
		})
	}
}

// TestThisMachine: where there is no such interface, the zero value says so.
func TestThisMachine(t *testing.T) {
	if _, err := os.Stat(tsm.Dir); err == nil {
		t.Skip("this machine has configfs-tsm")
	}
	_, err := tsm.Client{}.Provider()
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func Example() {
	kernel := &tsmtest.Kernel{Provider: tsm.TDXGuest, Report: func(b []byte) ([]byte, error) { return b[:2], nil }}
	r, err := tsm.Client{Files: kernel}.Report(context.Background(), [64]byte{0xAB, 0xCD}) // tsm.Client{} asks the running kernel
	fmt.Printf("%s %x %v\n", r.Provider, r.Evidence, err)
	// Output: tdx_guest abcd <nil>
}
