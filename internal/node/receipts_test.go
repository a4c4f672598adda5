package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
)

func TestReceipts(t *testing.T) {
	w, _ := newWorld(t)
	alice, bob := w.client(identity(t)), w.client(identity(t))
	for i := range 6 {
		owner := []*client.Node{alice, bob}[i%2]
		if _, err := owner.PutKey(t.Context(), client.PutKey{Name: fmt.Sprintf("app/key%d", i), Policy: policy(t, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	numbers := func(n *client.Node, after uint64) (out []uint64) {
		t.Helper()
		list, err := n.Receipts(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			out = append(out, r.Number)
			if r.Action != "create" {
				t.Errorf("receipt %d is of %q", r.Number, r.Action)
			}
		}
		return out
	}
	for _, c := range []struct {
		who   *client.Node
		after uint64
		want  string
	}{
		{alice, 0, "[1 3 5]"}, {alice, 1, "[3 5]"}, {alice, 2, "[3 5]"}, {alice, 5, "[]"}, {alice, 1 << 62, "[]"}, {bob, 0, "[2 4 6]"}, {bob, 4, "[6]"},
	} {
		if got := fmt.Sprint(numbers(c.who, c.after)); got != c.want {
			t.Errorf("after %d: %s, want %s", c.after, got, c.want)
		}
	}
	signed, err := alice.Receipt(t.Context(), 3)
	if err != nil || signed.Receipt.Number != 3 || signed.Receipt.Key != "app/key2" {
		t.Errorf("%+v, %v", signed.Receipt, err)
	}
	if err := client.VerifyReceipt(signed, w.platform.Roots, attest.Development()); err != nil {
		t.Errorf("offline: %v", err)
	}
	for _, n := range []uint64{2, 7, 0, 1 << 63} { // another's, or nobody's yet
		_, err := alice.Receipt(t.Context(), n)
		wantCode(t, err, http.StatusNotFound, "not_found")
	}
}

// A page is bounded, and the next one goes on behind it.
func TestReceiptsArePaged(t *testing.T) {
	w, _ := newWorld(t)
	n := w.client(identity(t))
	if _, err := n.PutKey(t.Context(), client.PutKey{Name: "app/key", Policy: policy(t, nil)}); err != nil {
		t.Fatal(err)
	}
	in := w.workload()
	for range 8 { // 128 receipts each
		names := make([]string, keys.MaxReleaseKeys)
		for i := range names {
			names[i] = "app/key"
		}
		req, _ := w.ask(in, names...)
		req.Renew = true
		if _, err := n.Release(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	first, err := n.Receipts(t.Context(), 0)
	if err != nil || len(first) != maxReceipts {
		t.Fatalf("%d receipts, %v; want a page of %d", len(first), err, maxReceipts)
	}
	second, err := n.Receipts(t.Context(), first[len(first)-1].Number)
	if err != nil || len(first)+len(second) != 1+8*keys.MaxReleaseKeys {
		t.Errorf("%d and %d receipts, %v", len(first), len(second), err)
	}
	all, err := n.AllReceipts(t.Context(), 0)
	if err != nil || len(all) != len(first)+len(second) {
		t.Fatalf("%d receipts on all pages, %v", len(all), err)
	}
	for i, r := range all {
		if r.Number != uint64(i+1) {
			t.Fatalf("receipt %d has number %d", i+1, r.Number)
		}
		if i > 0 {
			if d := all[i-1].Digest(); string(d[:]) != string(r.Previous) {
				t.Fatalf("receipt %d does not follow the one before", r.Number)
			}
		}
	}
}

// A receipt's list is JSON even when it is empty.
func TestNoReceipts(t *testing.T) {
	w, _ := newWorld(t)
	c := w.caller(identity(t))
	for _, path := range []string{"/v1/receipts", "/v1/keys"} {
		status, b := c.do("GET", path, nil)
		var list []json.RawMessage
		if err := json.Unmarshal(b, &list); status != http.StatusOK || err != nil || list == nil || len(list) != 0 {
			t.Errorf("GET %s: %d %s", path, status, b)
		}
	}
}
