package keys_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
)

// history makes one receipt of every kind and returns how many there are.
func (w *world) history(t testing.TB) uint64 {
	t.Helper()
	w.imported(t, "k", nil)
	must(w.Create(t.Context(), bob, "bobs", 0, policy(t, nil)))
	must(w.Rotate(t.Context(), alice, "k"))
	must(w.SetPolicy(t.Context(), alice, "k", policy(t, func(p *keys.Policy) { p.LeaseSeconds = 90 })))
	must(w.release(t, w.ask(t, "k", "bobs")))
	renewal := w.ask(t, "k")
	renewal.Renew = true
	must(w.release(t, renewal))
	return 7
}

func TestReceipts(t *testing.T) {
	w := newWorld(t)
	w.pass(1500 * time.Millisecond)
	last := w.history(t)
	digest := must(hex.DecodeString(must(w.Get(alice, "k")).PolicyDigest))
	c := w.tee.Claims()

	var got []keys.Receipt
	previous := make([]byte, 32)
	for n := uint64(1); n <= last; n++ {
		owner := alice
		if n == 2 || n == 6 {
			owner = bob
		}
		r, err := w.Receipt(owner, n)
		if err != nil {
			t.Fatalf("receipt %d: %v", n, err)
		}
		if r.Number != n || !bytes.Equal(r.Previous, previous) {
			t.Errorf("receipt %d has number %d and does not follow the one before", n, r.Number)
		}
		d := r.Digest()
		previous = d[:]
		got = append(got, r)
	}
	actions := []string{}
	for _, r := range got {
		actions = append(actions, fmt.Sprintf("%s %s %d", r.Action, r.Key, r.Version))
	}
	if d := cmp.Diff([]string{"import k 1", "create bobs 1", "rotate k 2", "policy k 2", "release k 2", "release bobs 1", "renew k 2"}, actions); d != "" {
		t.Errorf("actions (-want +got):\n%s", d)
	}
	release := got[4]
	if len(release.EvidenceDigest) != 32 {
		t.Errorf("evidence digest %x", release.EvidenceDigest)
	}
	want := keys.Receipt{
		Number: 5, Previous: release.Previous, Time: "2026-03-01T12:00:01.500Z", Action: "release", Key: "k", Version: 2, Owner: alice, PolicyDigest: digest,
		TEE: "software", Simulated: true, Measurement: c.Measurement, LaunchDigest: c.LaunchDigest, InstanceID: "i-1",
		EvidenceDigest: release.EvidenceDigest, Expires: "2026-03-01T12:01:01.500Z",
	}
	if d := cmp.Diff(want, release); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReceiptsAreForTheOwner(t *testing.T) {
	w := newWorld(t)
	last := w.history(t)
	numbers := func(owner []byte, after uint64, limit int) (out []uint64) {
		for _, r := range must(w.Receipts(owner, after, limit)) {
			out = append(out, r.Number)
		}
		return out
	}
	for _, c := range []struct {
		owner []byte
		after uint64
		limit int
		want  []uint64
	}{
		{alice, 0, 100, []uint64{1, 3, 4, 5, 7}}, {bob, 0, 100, []uint64{2, 6}}, {make([]byte, 32), 0, 100, nil},
		{alice, 3, 2, []uint64{4, 5}}, {alice, 5, 2, []uint64{7}}, {alice, last, 2, nil}, {alice, 1 << 63, 2, nil}, {alice, ^uint64(0), 2, nil}, {alice, 0, 0, nil},
	} {
		if got := numbers(c.owner, c.after, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("%c after %d, at most %d: %v, want %v", c.owner[0], c.after, c.limit, got, c.want)
		}
	}
	for _, n := range []uint64{0, 2, 6, last + 1, ^uint64(0)} {
		_, err := w.Receipt(alice, n)
		wantError(t, err, keys.ErrNotFound)
	}
	for _, nobody := range [][]byte{nil, {}, alice[:31]} {
		_, err := w.Receipt(nobody, 1)
		wantError(t, err, keys.ErrNoIdentity)
		_, err = w.Receipts(nobody, 0, 100)
		wantError(t, err, keys.ErrNoIdentity)
	}
}

// Every field of a receipt is in its digest, whichever may be added.
func TestReceiptDigestCoversEveryField(t *testing.T) {
	seen := map[[32]byte]string{keys.Receipt{}.Digest(): "zero"}
	typ := reflect.TypeFor[keys.Receipt]()
	for i := range typ.NumField() {
		var r keys.Receipt
		switch f := reflect.ValueOf(&r).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Uint32, reflect.Uint64:
			f.SetUint(7)
		default:
			f.SetBytes([]byte("x"))
		}
		if twin, ok := seen[r.Digest()]; ok {
			t.Errorf("%s and %s have the same digest", typ.Field(i).Name, twin)
		}
		seen[r.Digest()] = typ.Field(i).Name
	}
}

// A restarted service is the same service: keys, policies, receipts and the
// place in the chain.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	last := w.history(t)
	again := w.restart(t)
	for _, owner := range [][]byte{alice, bob} {
		if d := cmp.Diff(w.List(owner), again.List(owner)); d != "" {
			t.Errorf("keys (-before +after):\n%s", d)
		}
		if d := cmp.Diff(must(w.Receipts(owner, 0, 100)), must(again.Receipts(owner, 0, 100))); d != "" {
			t.Errorf("receipts (-before +after):\n%s", d)
		}
	}
	before := must(w.Receipt(alice, last)).Digest()
	w.Service = again
	r := must(w.release(t, w.ask(t, "k")))
	got := must(w.Receipt(alice, r.Receipts[0]))
	if got.Number != last+1 || !bytes.Equal(got.Previous, before[:]) {
		t.Errorf("receipt %d does not go on where the chain ended", got.Number)
	}
}

func TestReplayRefuses(t *testing.T) {
	w := newWorld(t)
	w.history(t)
	good := w.log.Entries()
	swapped := slices.Clone(good)
	swapped[1], swapped[3] = swapped[3], swapped[1] // two receipts
	for name, entries := range map[string][][]byte{
		"receipts swapped":      swapped,
		"receipt missing":       slices.Delete(slices.Clone(good), 1, 2),
		"receipt twice":         slices.Insert(slices.Clone(good), 2, good[1]),
		"policy of no key":      {good[6]},
		"garbage":               {[]byte("garbage")},
		"nothing":               {{}},
		"an unknown kind":       {{0xa0}},
		"a newer kind":          {{0xa1, 0x18, 0x63, 0x01}},
		"bytes behind an entry": {append(bytes.Clone(good[0]), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			s := keys.New(w.config())
			var err error
			for i, e := range entries {
				if err = s.Replay(i, e); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}

// Run with -race: everything at once.
func TestHammer(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	var wg sync.WaitGroup
	const workers, rounds = 4, 5
	for i := range workers {
		wg.Go(func() {
			for j := range rounds {
				name := fmt.Sprintf("w%d-%d", i, j)
				if _, err := w.Create(t.Context(), alice, name, 0, policy(t, nil)); err != nil {
					t.Error(err)
				}
				if _, err := w.Rotate(t.Context(), alice, name); err != nil {
					t.Error(err)
				}
				if _, err := w.SetPolicy(t.Context(), alice, "k", policy(t, func(p *keys.Policy) { p.LeaseSeconds = 5 + i + j })); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				a := w.ask(t, "k")
				r, err := w.release(t, a)
				if err != nil || a.opened(t, r)[0] != "material of k" {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				w.List(alice)
				if _, err := w.Receipts(alice, 0, 1000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list := must(w.Receipts(alice, 0, 1000))
	if want := 1 + workers*rounds*4; len(list) != want {
		t.Fatalf("%d receipts, want %d", len(list), want)
	}
	previous := [32]byte{}
	for i, r := range list {
		if r.Number != uint64(i+1) || !bytes.Equal(r.Previous, previous[:]) {
			t.Fatalf("receipt %d at place %d does not follow", r.Number, i+1)
		}
		previous = r.Digest()
	}
	if d := cmp.Diff(w.List(alice), w.restart(t).List(alice)); d != "" {
		t.Errorf("a restart differs (-before +after):\n%s", d)
	}
}

// The token of a release is about the evidence that was shown, and names the
// policies of the keys.
func TestTokenOfARelease(t *testing.T) {
	w := newWorld(t)
	digests := map[[32]byte]bool{}
	var last *attest.Verified
	w.issue = func(v *attest.Verified, policy [32]byte) (string, error) {
		last, digests[policy] = v, true
		return "t", nil
	}
	w.imported(t, "a", nil)
	w.imported(t, "b", func(p *keys.Policy) { p.LeaseSeconds = 61 })
	for _, names := range [][]string{{"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {}} {
		must(w.release(t, w.ask(t, names...)))
	}
	if len(digests) != 5 {
		t.Errorf("%d different policy digests, want 5", len(digests))
	}
	a := w.ask(t, "a")
	must(w.release(t, a))
	if last.EvidenceDigest != attest.DigestEvidence(a.Evidence) || last.Claims.TEE != tee.Software || len(last.Findings) != 0 {
		t.Errorf("the token is about %+v", last)
	}
}
