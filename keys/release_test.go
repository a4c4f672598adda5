package keys_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
)

func TestRelease(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "a", func(p *keys.Policy) { p.LeaseSeconds = 600 })
	w.imported(t, "b", func(p *keys.Policy) { p.LeaseSeconds = 30 })
	a := w.ask(t, "b", "a")
	r, err := w.release(t, a)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"material of b", "material of a"}, a.opened(t, r)); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
	if r.LeaseSeconds != 30 || r.Expires != start.Add(30*time.Second) {
		t.Errorf("lease %d s until %v, want the shortest", r.LeaseSeconds, r.Expires)
	}
	if d := cmp.Diff([]uint64{3, 4}, r.Receipts); d != "" {
		t.Errorf("receipts (-want +got):\n%s", d)
	}
	if zero := "token under " + hex.EncodeToString(make([]byte, 32)); len(r.Token) != len(zero) || r.Token == zero {
		t.Errorf("token %q", r.Token)
	}
	for _, k := range r.Keys {
		if bytes.Contains(k.Wrapped, []byte("material")) {
			t.Error("a key left unwrapped")
		}
	}
}

// TestVerdictsAreKept: one record for each policy that accepted the evidence, and
// each receipt names its own.
func TestVerdictsAreKept(t *testing.T) {
	w := newWorld(t)
	var kept []record.Record
	var fails error
	c := w.config()
	var names []string
	c.Keep = func(list []record.Prepared) error {
		for _, p := range list {
			kept, names = append(kept, p.Record()), append(names, p.Name())
		}
		return fails
	}
	w.Service = keys.New(c)
	w.log = &keystest.Log{}
	if err := w.log.Open(w.Service); err != nil {
		t.Fatal(err)
	}
	another := func(p *keys.Policy) { p.Appraisal.Name = "another" }
	for name, change := range map[string]func(*keys.Policy){"a": nil, "b": another, "c": nil} {
		w.imported(t, name, change)
	}
	r, err := w.release(t, w.ask(t, "a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range r.Receipts {
		got = append(got, must(w.Receipt(alice, n)).Verdict)
	}
	if len(names) != 2 || names[0] == names[1] {
		t.Fatal(names)
	}
	if d := cmp.Diff([]string{names[0], names[1], names[0]}, got); d != "" {
		t.Errorf("verdicts (-want +got):\n%s", d)
	}
	for i, k := range kept {
		if !k.Accepted || k.TokenID != "id of "+r.Token {
			t.Errorf("record %d: %+v", i+1, k)
		}
	}
	if kept[0].Policy == kept[1].Policy {
		t.Error("two policies have one record")
	}

	// Nothing leaves without its record.
	fails = errors.New("the disk is full")
	before := len(w.log.Entries())
	r, err = w.release(t, w.ask(t, "a"))
	wantError(t, err, fails)
	wantNothing(t, r)
	if got := len(w.log.Entries()); got != before {
		t.Errorf("%d receipts of what was not released", got-before)
	}
}

// TestRefusalsAreTold: each verdict that refuses is told, with what it takes to reach
// it again; who asks for a key that is not there gets no verdict.
func TestRefusalsAreTold(t *testing.T) {
	w := newWorld(t)
	var told []record.Record
	c := w.config()
	c.Refused = func(_ record.Case, r record.Record) { told = append(told, r) }
	w.Service = keys.New(c)
	w.log = &keystest.Log{}
	if err := w.log.Open(w.Service); err != nil {
		t.Fatal(err)
	}
	w.imported(t, "a", func(p *keys.Policy) { p.Appraisal.CollateralGraceDays = 3 })
	w.imported(t, "b", func(p *keys.Policy) { p.Appraisal.Measurements = []string{strings.Repeat("00", 32)} })
	digest := func(name string) string {
		d := must(w.Get(alice, name)).Policy.Appraisal.Digest()
		return hex.EncodeToString(d[:])
	}
	forged := w.ask(t, "a", "b")
	forged.Evidence.Data = []byte("junk")
	other := w.ask(t, "a")
	w.show(t, &other, [64]byte{})
	for _, c := range []struct {
		name   string
		ask    asking
		policy string // whose; empty: nothing is told
		code   tee.Code
		bound  bool
	}{
		{"accepted", w.ask(t, "a"), "", "", false},
		{"no such key", w.ask(t, "none"), "", "", false},
		{"forged", forged, "b", tee.CodeParse, false}, // the one that is stricter about collateral
		{"bound to something else", other, "a", tee.CodeBinding, true},
		{"refused by a policy", w.ask(t, "a", "b"), "b", attest.CodeMeasurement, true},
	} {
		told = nil
		if r, err := w.release(t, c.ask); (err == nil) != (c.name == "accepted") {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
		if c.policy == "" {
			if told != nil {
				t.Errorf("%s: told %+v", c.name, told)
			}
			continue
		}
		if len(told) != 1 || told[0].Accepted || told[0].Policy != digest(c.policy) || told[0].Failures[0].Code != c.code || (told[0].ReportData != "") != c.bound {
			t.Errorf("%s: told %+v", c.name, told)
		}
	}
}

func TestReleaseOfNothing(t *testing.T) {
	w := newWorld(t)
	r, err := w.release(t, w.ask(t))
	if err != nil {
		t.Fatal(err)
	}
	// No policy was asked, and the token must not say that one said yes.
	want := keys.ReleaseResponse{
		Expires: start.Add(keys.DefaultLease), LeaseSeconds: 3600, Receipts: []uint64{},
		Token: "token under " + hex.EncodeToString(make([]byte, 32)),
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	a := w.ask(t, "k")
	a.Renew = true
	w.pass(time.Hour)
	a.Nonce = must(w.Nonce())
	w.show(t, &a, keys.ReleaseBinding(a.Nonce, a.PublicKey, w.tee.Claims().LaunchDigest, "i-1"))
	r, err := w.release(t, a)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Keys) != 0 || r.Expires != start.Add(time.Hour+time.Minute) || len(r.Receipts) != 1 {
		t.Errorf("%+v", r)
	}
	if got := must(w.Receipt(alice, r.Receipts[0])); got.Action != "renew" {
		t.Errorf("action %q", got.Action)
	}
}

func TestReleaseRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, w *world, a *asking)
		want   error      // a sentinel, or
		codes  []tee.Code // the codes of a verdict
	}{
		{"nonce twice", func(t *testing.T, w *world, a *asking) { must(w.release(t, *a)) }, keys.ErrNonce, nil},
		{"nonce spent on a refusal", func(t *testing.T, w *world, a *asking) {
			bad := *a
			bad.Evidence.Data = nil
			if _, err := w.release(t, bad); err == nil {
				t.Fatal("accepted")
			}
		}, keys.ErrNonce, nil},
		{"nonce of nobody", func(_ *testing.T, _ *world, a *asking) { a.Nonce = make([]byte, keys.NonceSize) }, keys.ErrNonce, nil},
		{"short nonce", func(_ *testing.T, _ *world, a *asking) { a.Nonce = a.Nonce[1:] }, keys.ErrNonce, nil},
		{"no nonce", func(_ *testing.T, _ *world, a *asking) { a.Nonce = nil }, keys.ErrNonce, nil},
		{"nonce of another service", func(t *testing.T, _ *world, a *asking) { a.Nonce = must(newWorld(t).Nonce()) }, keys.ErrNonce, nil},
		{"old nonce", func(_ *testing.T, w *world, _ *asking) { w.pass(keys.NonceLifetime + 1) }, keys.ErrNonce, nil},
		{"clock set back", func(_ *testing.T, w *world, _ *asking) { w.pass(-1) }, keys.ErrNonce, nil},
		{"clock set back far", func(_ *testing.T, w *world, _ *asking) { w.pass(-100 * 365 * 24 * time.Hour) }, keys.ErrNonce, nil},
		{"another nonce of this service", func(_ *testing.T, w *world, a *asking) { a.Nonce = must(w.Nonce()) }, nil, []tee.Code{tee.CodeBinding}},
		{"another public key", func(_ *testing.T, _ *world, a *asking) {
			thief, _, err := keys.NewRecipient()
			a.PublicKey = thief.PublicKey()
			if err != nil {
				panic(err)
			}
		}, nil, []tee.Code{tee.CodeBinding}},
		{"another instance", func(t *testing.T, w *world, a *asking) {
			w.show(t, a, keys.ReleaseBinding(a.Nonce, a.PublicKey, w.tee.Claims().LaunchDigest, "i-2"))
		}, nil, []tee.Code{tee.CodeBinding}},
		{"another launch digest", func(t *testing.T, w *world, a *asking) {
			w.show(t, a, keys.ReleaseBinding(a.Nonce, a.PublicKey, make([]byte, 32), "i-1"))
		}, nil, []tee.Code{tee.CodeBinding}},
		{"fields moved into each other", func(t *testing.T, w *world, a *asking) {
			c := w.tee.Claims()
			w.show(t, a, keys.ReleaseBinding(a.Nonce, slices.Concat(a.PublicKey, c.LaunchDigest), nil, "i-1"))
		}, nil, []tee.Code{tee.CodeBinding}},
		{"report data of a channel", func(t *testing.T, w *world, a *asking) {
			w.show(t, a, tee.Bind("cloister channel v1", []byte("client"), a.Nonce, a.PublicKey, nil))
		}, nil, []tee.Code{tee.CodeBinding}},
		{"claims changed", func(_ *testing.T, _ *world, a *asking) { a.Evidence.Data[len(a.Evidence.Data)-1] ^= 1 }, nil, []tee.Code{tee.CodeSignature}},
		{"no evidence", func(_ *testing.T, _ *world, a *asking) { a.Evidence = tee.Evidence{} }, nil, []tee.Code{tee.CodeUnknownFormat}},
		{"evidence of no TEE here", func(_ *testing.T, _ *world, a *asking) { a.Evidence.Kind = tee.SNP }, nil, []tee.Code{tee.CodeUnsupported}},
		{"other platform", func(t *testing.T, w *world, a *asking) {
			c := w.tee.Claims()
			a.Evidence = must(newWorld(t).tee.Evidence(t.Context(), keys.ReleaseBinding(a.Nonce, a.PublicKey, c.LaunchDigest, c.InstanceID)))
		}, nil, []tee.Code{tee.CodeChain}},
		{"debug", func(t *testing.T, w *world, a *asking) {
			w.tee.Set(func(c *tee.Claims) { c.Debug = true })
			*a = w.ask(t, "k")
		}, nil, []tee.Code{attest.CodeDebug}},
		{"one of two keys", func(_ *testing.T, _ *world, a *asking) { a.Keys = []string{"k", "strict"} }, nil, []tee.Code{attest.CodeMeasurement}},
		{"one of two keys, the other order", func(_ *testing.T, _ *world, a *asking) { a.Keys = []string{"strict", "k"} }, nil, []tee.Code{attest.CodeMeasurement}},
		{"no such key", func(_ *testing.T, _ *world, a *asking) { a.Keys = []string{"k", "none"} }, keys.ErrNotFound, nil},
		{"no name", func(_ *testing.T, _ *world, a *asking) { a.Keys = []string{""} }, keys.ErrNotFound, nil},
		{"too many keys", func(_ *testing.T, _ *world, a *asking) { a.Keys = slices.Repeat(a.Keys, keys.MaxReleaseKeys+1) }, keys.ErrInvalid, nil},
		{"public key that is none", func(t *testing.T, w *world, a *asking) {
			a.PublicKey = a.PublicKey[1:]
			w.show(t, a, keys.ReleaseBinding(a.Nonce, a.PublicKey, w.tee.Claims().LaunchDigest, "i-1"))
		}, keys.ErrInvalid, nil},
		{"no public key", func(t *testing.T, w *world, a *asking) {
			a.PublicKey = nil
			w.show(t, a, keys.ReleaseBinding(a.Nonce, nil, w.tee.Claims().LaunchDigest, "i-1"))
		}, keys.ErrInvalid, nil},
		{"no token", func(_ *testing.T, w *world, _ *asking) {
			w.issue = func(*attest.Verified, [32]byte) (string, error) { return "", errIssue }
		}, errIssue, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.imported(t, "k", nil)
			w.imported(t, "strict", func(p *keys.Policy) { p.Appraisal.Measurements = []string{hex.EncodeToString(make([]byte, 32))} })
			a := w.ask(t, "k")
			c.change(t, w, &a)
			before := len(w.log.Entries())
			r, err := w.release(t, a)
			if c.want != nil {
				wantError(t, err, c.want)
			} else {
				wantCodes(t, err, c.codes...)
			}
			wantNothing(t, r)
			if got := len(w.log.Entries()); got != before {
				t.Errorf("%d receipts of a refusal", got-before)
			}
		})
	}
}

var errIssue = errors.New("the issuer is out of ink")

func TestNonces(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 100 {
		n := string(must(w.Nonce()))
		if len(n) != keys.NonceSize || seen[n] {
			t.Fatalf("nonce %x", n)
		}
		seen[n] = true
	}
	a, b := must(w.Nonce()), must(w.Nonce())
	w.pass(keys.NonceLifetime)
	if !w.TakeNonce(b) || w.TakeNonce(b) {
		t.Error("want it taken once, at the last moment")
	}
	w.pass(1)
	must(w.Nonce()) // clears what is old
	w.pass(-1)
	if w.TakeNonce(a) {
		t.Error("an old nonce became young again with the clock")
	}
}

// Nothing leaves the service before its receipt is durable.
func TestKeysWaitForTheirReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.imported(t, "k", nil)
		a := w.ask(t, "k")
		release := w.log.Hold()
		done := make(chan error)
		var r keys.ReleaseResponse
		go func() {
			var err error
			r, err = w.release(t, a)
			done <- err
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("the key left before its receipt was durable")
		default:
		}
		if _, err := w.Receipt(alice, 2); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("a receipt that is not durable: %v", err)
		}
		// Listing meanwhile shows what is durable, and no error.
		if list, err := w.Receipts(alice, 0, 10); err != nil || len(list) != 1 {
			t.Errorf("%d receipts, %v", len(list), err)
		}
		release()
		if err := <-done; err != nil || len(r.Keys) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if got := must(w.Receipt(alice, r.Receipts[0])); got.Number != 2 || got.Action != "release" {
			t.Errorf("receipt %+v", got)
		}
	})
}

// Releases that come while the log is busy share the next batch.
func TestConcurrentReleasesShareBatches(t *testing.T) {
	const n = 20
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.imported(t, "k", nil)
		before := w.log.Batches()
		release := w.log.Hold()
		done := make(chan keys.ReleaseResponse, n)
		for range n {
			a := w.ask(t, "k")
			go func() {
				r, err := w.release(t, a)
				if err != nil {
					t.Error(err)
				}
				done <- r
			}()
		}
		synctest.Wait()
		release()
		numbers := map[uint64]bool{}
		for range n {
			r := <-done
			numbers[r.Receipts[0]] = true
		}
		synctest.Wait()
		if len(numbers) != n {
			t.Errorf("%d different receipts for %d releases", len(numbers), n)
		}
		if got := w.log.Batches() - before; got != 2 {
			t.Errorf("%d batches, want the one that was held and one for all the rest", got)
		}
	})
}

func TestFailingLog(t *testing.T) {
	full := errors.New("no space left on device")
	w := newWorld(t)
	w.imported(t, "k", nil)
	w.log.Fail(full)
	r, err := w.release(t, w.ask(t, "k"))
	wantError(t, err, full)
	wantNothing(t, r)
	// The receipt may be in the log or not: until a restart finds out, the
	// service gives nothing more.
	w.log.Fail(nil)
	r, err = w.release(t, w.ask(t, "k"))
	wantError(t, err, full)
	wantNothing(t, r)
	if _, err := w.Create(t.Context(), alice, "new", 0, policy(t, nil)); !errors.Is(err, full) {
		t.Errorf("create: %v", err)
	}
	if _, err := w.Rotate(t.Context(), alice, "k"); !errors.Is(err, full) {
		t.Errorf("rotate: %v", err)
	}
	if _, err := w.SetPolicy(t.Context(), alice, "k", policy(t, func(p *keys.Policy) { p.LeaseSeconds = 5 })); !errors.Is(err, full) {
		t.Errorf("set policy: %v", err)
	}
	if k := must(w.Get(alice, "k")); k.Version != 1 || k.Policy.LeaseSeconds != 60 {
		t.Errorf("a change that is not durable shows: %+v", k)
	}
	if list := w.List(alice); len(list) != 1 {
		t.Errorf("keys %v", list)
	}
	w.Service = w.restart(t)
	a := w.ask(t, "k")
	if got := a.opened(t, must(w.release(t, a))); got[0] != "material of k" {
		t.Errorf("after a restart: %q", got)
	}
}

// lossy forgets the last entry of every batch.
type lossy struct{ keys.Log }

func (l lossy) Append(entries [][]byte) ([]keys.Ref, error) {
	refs, err := l.Log.Append(entries)
	return refs[:len(refs)-1], err
}

func TestLogThatLosesEntries(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	w.Begin(lossy{w.log})
	r, err := w.release(t, w.ask(t, "k"))
	if err == nil {
		t.Error("accepted")
	}
	wantNothing(t, r)
}
