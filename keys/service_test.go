package keys_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/keys"
	"github.com/google/go-cmp/cmp"
)

func TestCreateImportListGet(t *testing.T) {
	w := newWorld(t)
	if list := w.List(alice); list == nil || len(list) != 0 {
		t.Errorf("keys of an empty service: %v", list)
	}
	created, err := w.Create(t.Context(), alice, "b/data", 0, policy(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	imported, err := w.Import(t.Context(), alice, "a", []byte("secret"), policy(t, func(p *keys.Policy) { p.LeaseSeconds = 0 }))
	if err != nil {
		t.Fatal(err)
	}
	parsed := must(keys.ParsePolicy(policy(t, nil)))
	digest := parsed.Digest()
	want := keys.Key{
		Name: "b/data", Version: 1, Owner: hex.EncodeToString(alice), Created: start, Changed: start, Bytes: 32,
		Policy: parsed, PolicyDigest: hex.EncodeToString(digest[:]),
	}
	if d := cmp.Diff(want, created); d != "" {
		t.Errorf("created (-want +got):\n%s", d)
	}
	if imported.Bytes != 6 || imported.Created != start.Add(time.Minute) || imported.PolicyDigest == created.PolicyDigest {
		t.Errorf("imported %+v", imported)
	}
	if d := cmp.Diff([]keys.Key{imported, created}, w.List(alice)); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	if d := cmp.Diff(created, must(w.Get(alice, "b/data"))); d != "" {
		t.Errorf("get (-want +got):\n%s", d)
	}
}

// To everybody but its owner a key does not exist.
func TestOthersSeeNothing(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	ctx := t.Context()
	calls := map[string]func(owner []byte, name string) error{
		"get":    func(o []byte, n string) error { _, err := w.Get(o, n); return err },
		"rotate": func(o []byte, n string) error { _, err := w.Rotate(ctx, o, n); return err },
		"policy": func(o []byte, n string) error { _, err := w.SetPolicy(ctx, o, n, policy(t, nil)); return err },
	}
	for name, call := range calls {
		other, missing := call(bob, "k"), call(alice, "no such key")
		wantError(t, other, keys.ErrNotFound)
		if missing == nil || other.Error() != missing.Error() {
			t.Errorf("%s: %q for another's key, %q for none", name, other, missing)
		}
		for _, nobody := range [][]byte{nil, {}, alice[:31], append(bytes.Clone(alice), 0)} {
			wantError(t, call(nobody, "k"), keys.ErrNoIdentity)
		}
	}
	for _, owner := range [][]byte{bob, nil, {}} {
		if got := w.List(owner); len(got) != 0 {
			t.Errorf("%x sees %v", owner, got)
		}
	}
	if got := must(w.Get(alice, "k")); got.Version != 1 {
		t.Errorf("changed by others: %+v", got)
	}
}

func TestAddRefuses(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "taken", nil)
	before := len(w.log.Entries())
	good := policy(t, nil)
	cases := []struct {
		name   string
		owner  []byte
		key    string
		size   int // of a key to create; 0: import
		bytes  int // of a key to import
		policy []byte
		want   error
	}{
		{"no identity", nil, "k", 32, 0, good, keys.ErrNoIdentity},
		{"no identity, import", alice[:3], "k", 0, 32, good, keys.ErrNoIdentity},
		{"taken", alice, "taken", 32, 0, good, keys.ErrExists},
		{"taken by another", bob, "taken", 0, 32, good, keys.ErrExists},
		{"short", alice, "k", 15, 0, good, keys.ErrInvalid},
		{"negative", alice, "k", -1, 0, good, keys.ErrInvalid},
		{"long", alice, "k", keys.MaxKey + 1, 0, good, keys.ErrInvalid},
		{"empty import", alice, "k", 0, 0, good, keys.ErrInvalid},
		{"long import", alice, "k", 0, keys.MaxKey + 1, good, keys.ErrInvalid},
		{"no name", alice, "", 32, 0, good, keys.ErrInvalid},
		{"name", alice, "../k", 32, 0, good, keys.ErrInvalid},
		{"name in capitals", alice, "K", 32, 0, good, keys.ErrInvalid},
		{"no policy", alice, "k", 32, 0, nil, keys.ErrInvalid},
		{"zero policy", alice, "k", 32, 0, []byte(`{}`), keys.ErrInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var err error
			var got keys.Key
			if c.size != 0 {
				got, err = w.Create(t.Context(), c.owner, c.key, c.size, c.policy)
			} else {
				got, err = w.Import(t.Context(), c.owner, c.key, make([]byte, c.bytes), c.policy)
			}
			wantError(t, err, c.want)
			if got.Name != "" {
				t.Errorf("a key beside an error: %+v", got)
			}
		})
	}
	if got := len(w.log.Entries()); got != before {
		t.Errorf("%d entries for what was refused", got-before)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	good := string(policy(t, nil))
	appraisal := strings.TrimSuffix(strings.TrimPrefix(good, `{"appraisal":`), `,"lease_seconds":60}`)
	for name, in := range map[string]string{
		"empty": ``, "null": `null`, "zero": `{}`, "no appraisal": `{"lease_seconds":60}`, "null appraisal": `{"appraisal":null}`, "zero appraisal": `{"appraisal":{}}`,
		"unknown member": `{"appraisal":` + appraisal + `,"lease":60}`, "capitals": `{"Appraisal":` + appraisal + `}`,
		"twice": `{"appraisal":` + appraisal + `,"lease_seconds":60,"lease_seconds":61}`, "trailing": good + good,
		"short lease": `{"appraisal":` + appraisal + `,"lease_seconds":4}`, "long lease": `{"appraisal":` + appraisal + `,"lease_seconds":86401}`,
		"negative lease": `{"appraisal":` + appraisal + `,"lease_seconds":-1}`, "overflow": `{"appraisal":` + appraisal + `,"lease_seconds":9223372036}`,
		"more overflow":            `{"appraisal":` + appraisal + `,"lease_seconds":18446744080}`,
		"unknown in the appraisal": `{"appraisal":` + strings.Replace(appraisal, `"tcb"`, `"tbc"`, 1) + `}`,
	} {
		if p, err := keys.ParsePolicy([]byte(in)); !errors.Is(err, keys.ErrInvalid) || p.LeaseSeconds != 0 || p.Appraisal.Version != 0 {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// A rule that does not compile is found when it is set, not at the next release.
func TestPolicyMustCompile(t *testing.T) {
	w := newWorld(t)
	bad := policy(t, func(p *keys.Policy) { p.Appraisal.Rules = []attest.Rule{{Name: "r", Expr: "claims ="}} })
	_, err := w.Create(t.Context(), alice, "k", 0, bad)
	wantError(t, err, attest.ErrPolicy)
	w.imported(t, "k", nil)
	_, err = w.SetPolicy(t.Context(), alice, "k", bad)
	wantError(t, err, attest.ErrPolicy)
	if got := w.ask(t, "k"); !bytes.Equal([]byte(got.opened(t, must(w.release(t, got)))[0]), []byte("material of k")) {
		t.Error("the refused policy changed the key")
	}
}

func TestPolicyDigest(t *testing.T) {
	base := keys.Policy{Appraisal: attest.Development(), LeaseSeconds: 60}
	named := base
	named.Appraisal.Name = "other"
	seen := map[[32]byte]string{}
	for name, p := range map[string]keys.Policy{"base": base, "lease": {Appraisal: base.Appraisal, LeaseSeconds: 61}, "appraisal": named} {
		d := p.Digest()
		if twin, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, twin)
		}
		seen[d] = name
	}
	if (keys.Policy{}).Digest() != (keys.Policy{LeaseSeconds: 3600}).Digest() {
		t.Error("the default lease, written out, is another policy")
	}
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	old := w.imported(t, "k", nil)
	w.pass(time.Hour)
	k, err := w.Rotate(t.Context(), alice, "k")
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != 2 || k.Created != start || k.Changed != start.Add(time.Hour) || k.Bytes != len(old) {
		t.Errorf("rotated %+v", k)
	}
	a := w.ask(t, "k")
	r := must(w.release(t, a))
	if got := a.opened(t, r)[0]; got == string(old) || len(got) != len(old) || got == string(make([]byte, len(old))) || r.Keys[0].Version != 2 {
		t.Errorf("released version %d of %d bytes, the old one: %v", r.Keys[0].Version, len(got), got == string(old))
	}
}

// The caller clears its copy of a secret once it is stored; the service must not
// be left with zeros.
func TestImportKeepsItsOwnCopy(t *testing.T) {
	w := newWorld(t)
	material, owner := []byte("a secret of some length"), bytes.Clone(alice)
	if _, err := w.Import(t.Context(), owner, "k", material, policy(t, nil)); err != nil {
		t.Fatal(err)
	}
	clear(material)
	clear(owner)
	a := w.ask(t, "k")
	if got := a.opened(t, must(w.release(t, a))); got[0] != "a secret of some length" {
		t.Errorf("released %q", got)
	}
	if _, err := w.Get(alice, "k"); err != nil {
		t.Errorf("the owner is lost: %v", err)
	}
}

func TestSetPolicyEndsRenewals(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	must(w.release(t, w.ask(t, "k")))
	renewal := func() asking {
		a := w.ask(t, "k")
		a.Renew = true
		return a
	}
	must(w.release(t, renewal()))
	before := must(w.Get(alice, "k"))
	w.pass(time.Second)
	k, err := w.SetPolicy(t.Context(), alice, "k", policy(t, func(p *keys.Policy) {
		p.Appraisal.Rules = []attest.Rule{{Name: "newer", Expr: "claims.svn > 2", Code: "too_old"}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != 1 || k.Created != start || k.Changed != start.Add(time.Second) || k.PolicyDigest == before.PolicyDigest {
		t.Errorf("key after the change: %+v", k)
	}
	for _, a := range []asking{renewal(), w.ask(t, "k")} {
		r, err := w.release(t, a)
		wantCodes(t, err, "too_old")
		wantNothing(t, r)
	}
	// Another instance's keys, and the key itself, are as they were.
	if _, err := w.SetPolicy(t.Context(), alice, "k", policy(t, nil)); err != nil {
		t.Fatal(err)
	}
	a := w.ask(t, "k")
	if got := a.opened(t, must(w.release(t, a))); got[0] != "material of k" {
		t.Errorf("released %q", got)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(policy(f, nil))
	f.Add([]byte(`{"appraisal":{},"lease_seconds":60}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := keys.ParsePolicy(b)
		if err != nil {
			if !errors.Is(err, keys.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := keys.ParsePolicy(must(jsonOf(p)))
		if err != nil || again.Digest() != p.Digest() || p.LeaseSeconds < 0 || p.LeaseSeconds > 24*3600 {
			t.Fatalf("%+v reads back as %+v: %v", p, again, err)
		}
	})
}
