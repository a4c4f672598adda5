package agent

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/tee"
)

func TestVault(t *testing.T) {
	for name, make := range map[string]func() (*vault, error){"of this kernel": newVault, "without memfd_secret": anonymousVault} {
		t.Run(name, func(t *testing.T) {
			v, err := make()
			if err != nil {
				t.Fatal(err)
			}
			first, second := []byte("first secret"), []byte("second")
			a, err1 := v.put(first)
			b, err2 := v.put(second)
			if err1 != nil || err2 != nil || string(a) != "first secret" || string(b) != "second" {
				t.Fatalf("%q %q (%v, %v)", a, b, err1, err2)
			}
			if !bytes.Equal(first, bytes.Repeat([]byte{0}, len(first))) {
				t.Errorf("the original is still %q", first)
			}
			// One secret cannot grow into the next.
			if _ = append(a, "overrun"...); string(b) != "second" {
				t.Errorf("an append to the first has made the second %q", b)
			}
			if empty, err := v.put(nil); err != nil || len(empty) != 0 {
				t.Errorf("an empty secret is %q, %v", empty, err)
			}
			// What does not fit is refused whole, and stays the caller's.
			large := bytes.Repeat([]byte{'x'}, vaultSize)
			if _, err := v.put(large); err == nil || large[0] != 'x' {
				t.Errorf("too much: %v", err)
			}
			rest := vaultSize - len("first secret") - len("second")
			if _, err := v.put(large[:rest]); err != nil {
				t.Errorf("what just fits: %v", err)
			}
			if _, err := v.put([]byte{1}); err == nil {
				t.Error("one byte more than it has room for")
			}
			v.wipe()
			for _, s := range [][]byte{a, b, v.mem} {
				if len(bytes.Trim(s, "\x00")) != 0 {
					t.Error("something is left after wiping")
				}
			}
			if again, err := v.put(bytes.Repeat([]byte{'y'}, vaultSize)); err != nil || again[vaultSize-1] != 'y' {
				t.Errorf("after wiping there is room: %v", err)
			}
			v.wipe()
		})
	}
}

func TestFailedEvent(t *testing.T) {
	failures := []tee.Failure{{Code: "c"}}
	own := &failure{code: "own", err: errors.New("what"), hint: "do", failures: failures}
	coded := &tee.Error{Code: tee.CodeSealed, Op: "unseal", Hint: "hint"}
	for _, c := range []struct {
		err  error
		want link.Event
	}{
		{errors.New("plain"), link.Event{State: link.Failed, Code: "agent", Message: "plain"}},
		{own, link.Event{State: link.Failed, Code: "own", Message: "what", Hint: "do", Failures: failures}},
		{fmt.Errorf("load: %w", own), link.Event{State: link.Failed, Code: "own", Message: "load: what", Hint: "do", Failures: failures}},
		{coded, link.Event{State: link.Failed, Code: "sealed", Message: coded.Error(), Hint: "hint"}},
		{&failure{code: "own", err: coded}, link.Event{State: link.Failed, Code: "own", Message: coded.Error()}}, // the outer reason
	} {
		if d := cmp.Diff(c.want, failedEvent(c.err)); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.err, d)
		}
	}
}

// Evidence for anyone who asks names the nonce, the launch and the instance, and
// can be taken for nothing else.
func TestDescribeBinding(t *testing.T) {
	nonce, digest := []byte("nonce"), []byte("digest")
	base := DescribeBinding(nonce, digest, "i-1")
	if base != DescribeBinding(bytes.Clone(nonce), bytes.Clone(digest), "i-1") {
		t.Error("the same question has two answers")
	}
	for name, other := range map[string][64]byte{
		"nonce": DescribeBinding([]byte("other"), digest, "i-1"), "digest": DescribeBinding(nonce, []byte("other"), "i-1"), "instance": DescribeBinding(nonce, digest, "i-2"),
		"borders": DescribeBinding([]byte("nonced"), []byte("igest"), "i-1"), "no nonce": DescribeBinding(nil, digest, "i-1"),
		"another context": tee.Bind("cloister release v1", nonce, digest, []byte("i-1")),
	} {
		if base == other {
			t.Errorf("another %s gives the same report data", name)
		}
	}
}
