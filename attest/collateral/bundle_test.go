package collateral_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

func fetched(t testing.TB) []collateral.Item {
	t.Helper()
	_, s := newVendor(t)
	return must(intelClient(s).Fetch(t.Context(), tee.TDX, dcaptest.FMSPC, "platform"))
}

func TestBundle(t *testing.T) {
	key := dcaptest.NewKey(t)
	b := collateral.NewBundle(dcaptest.At, fetched(t))
	raw, err := b.Sign(key)
	if err != nil || !collateral.IsBundle(raw) {
		t.Fatal(err)
	}
	got, err := collateral.ParseBundle(raw)
	if err != nil || len(got.Items) != 4 || !got.Signer.Equal(&key.PublicKey) || got.Digest() != b.Digest() || len(got.SignerName()) != 64 || !got.CreatedAt.Equal(dcaptest.At) {
		t.Errorf("%d items, %v", len(got.Items), err)
	}
	var e tee.Endorsements
	if err := collateral.Read(&e, "bundle.json", raw); err != nil || len(e.Collateral) != 2 || len(e.CRLs) != 2 {
		t.Errorf("%d documents, %d lists, %v", len(e.Collateral), len(e.CRLs), err)
	}
	if _, err := b.Sign(nil); err == nil {
		t.Error("signed without a key")
	}
	if _, err := b.Sign(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))); err == nil {
		t.Error("signed with a P-384 key")
	}
	if b.SignerName() != "" {
		t.Error("an unsigned bundle names a signer")
	}
}

// TestBundleRefuses has files that were altered, by hand or by somebody who can
// sign.
func TestBundleRefuses(t *testing.T) {
	key := dcaptest.NewKey(t)
	items := fetched(t)
	raw := must(collateral.NewBundle(dcaptest.At, items).Sign(key))
	resigned := func(change func(i *collateral.Item)) []byte {
		changed := append([]collateral.Item(nil), items...)
		change(&changed[0])
		return must(collateral.NewBundle(dcaptest.At, changed).Sign(key))
	}
	var outer map[string]any
	if err := json.Unmarshal(raw, &outer); err != nil {
		t.Fatal(err)
	}
	with := func(member string, v any) []byte {
		m := map[string]any{}
		maps.Copy(m, outer)
		m[member] = v
		return must(json.Marshal(m))
	}
	other := must(collateral.NewBundle(dcaptest.At, items).Sign(dcaptest.NewKey(t)))
	var otherOuter map[string]any
	if err := json.Unmarshal(other, &otherOuter); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "half": raw[:len(raw)/2], "another format": with("format", "cloister collateral bundle v2"), "an unknown member": with("extra", 1),
		"another key": with("key", otherOuter["key"]), "no key": with("key", ""), "another signature": with("signature", otherOuter["signature"]),
		"another payload": with("payload", "e30="), "too large": bytes.Repeat([]byte(" "), collateral.MaxBundle+1),
		"digest of other bytes": resigned(func(i *collateral.Item) { i.Digest = items[1].Digest }),
		"bytes of another":      resigned(func(i *collateral.Item) { i.Data = items[1].Data }),
		"a later next update":   resigned(func(i *collateral.Item) { i.NextUpdate = i.NextUpdate.AddDate(1, 0, 0) }),
		"an unknown kind":       resigned(func(i *collateral.Item) { i.Kind = "intel-magic" }),
		"another kind":          resigned(func(i *collateral.Item) { i.Kind = collateral.AMDCRL }),
	} {
		if got, err := collateral.ParseBundle(b); !errors.Is(err, collateral.ErrBundle) || got.Items != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewest: of two versions of one thing the later one counts.
func TestNewest(t *testing.T) {
	_, s := newVendor(t)
	first := must(intelClient(s).Fetch(t.Context(), tee.TDX, dcaptest.FMSPC, "platform"))
	_, s2 := newVendor(t)
	c := intelClient(s2)
	c.Now = func() time.Time { return dcaptest.At.AddDate(0, 0, 1) }
	second := must(c.Fetch(t.Context(), tee.TDX, dcaptest.FMSPC, "platform"))
	b := collateral.NewBundle(dcaptest.At, append(second, first...))
	if len(b.Items) != 4 {
		t.Fatalf("%d items", len(b.Items))
	}
	for _, i := range b.Items {
		if !i.FetchedAt.Equal(c.Now()) {
			t.Errorf("%s %s is the old one", i.Kind, i.Name)
		}
	}
}

func TestState(t *testing.T) {
	for _, i := range fetched(t) {
		if s := i.State(i.NextUpdate.Add(time.Second)); s != collateral.Stale {
			t.Errorf("%s: %s", i.Kind, s)
		}
		if s := i.State(i.IssuedAt.Add(-time.Second)); s != collateral.Future {
			t.Errorf("%s: %s", i.Kind, s)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	raw := must(collateral.NewBundle(dcaptest.At, fetched(f)).Sign(dcaptest.NewKey(f)))
	f.Add(raw)
	f.Add([]byte(`{"format":"cloister collateral bundle v1","payload":"e30=","key":"","signature":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := collateral.ParseBundle(b); err == nil && got.Signer == nil {
			t.Error("a bundle without a signer")
		}
	})
}
