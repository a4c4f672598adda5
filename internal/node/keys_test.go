package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
)

func TestKeys(t *testing.T) {
	w, log := newWorld(t)
	alice, bob := identity(t), identity(t)
	a, b := w.client(alice), w.client(bob)
	name, err := client.IdentityName(alice)
	if err != nil {
		t.Fatal(err)
	}
	material := []byte("material of the imported key")
	for _, k := range []client.PutKey{{Name: "app/made", Policy: policy(t, nil)}, {Name: "app/imported", Material: material, Policy: policy(t, nil)}} {
		made, err := a.PutKey(t.Context(), k)
		if err != nil || made.Name != k.Name || made.Version != 1 || made.Owner != name {
			t.Fatalf("%+v, %v; owner %s", made, err, name)
		}
	}
	if n := len(log.Entries()); n != 4 {
		t.Errorf("%d entries, want two keys with a receipt each", n)
	}
	list, err := a.Keys(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "app/imported" || list[0].Bytes != len(material) || list[1].Bytes != 32 {
		t.Errorf("%+v, %v", list, err)
	}
	rotated, err := a.Rotate(t.Context(), "app/made")
	if err != nil || rotated.Version != 2 {
		t.Errorf("%+v, %v", rotated, err)
	}
	changed, err := a.SetPolicy(t.Context(), "app/made", keys.Policy{Appraisal: attest.Development(), LeaseSeconds: 5})
	if err != nil || changed.PolicyDigest == rotated.PolicyDigest || changed.Policy.LeaseSeconds != 5 {
		t.Errorf("%+v, %v", changed, err)
	}
	if got, err := a.Key(t.Context(), "app/made"); err != nil || got.Version != 2 || got.PolicyDigest != changed.PolicyDigest {
		t.Errorf("%+v, %v", got, err)
	}

	// Another owner sees none of it, not even that it exists.
	if list, err := b.Keys(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("another owner's keys: %+v, %v", list, err)
	}
	_, getErr := b.Key(t.Context(), "app/made")
	_, rotateErr := b.Rotate(t.Context(), "app/made")
	_, policyErr := b.SetPolicy(t.Context(), "app/made", keys.Policy{Appraisal: attest.Development()})
	_, noneErr := b.Key(t.Context(), "app/none")
	for _, err := range []error{getErr, rotateErr, policyErr, noneErr} {
		if p := wantCode(t, err, http.StatusNotFound, "not_found"); p.Detail != keys.ErrNotFound.Error() || p.Hint == "" {
			t.Errorf("%+v", p)
		}
	}
	_, err = b.PutKey(t.Context(), client.PutKey{Name: "app/made", Policy: policy(t, nil)})
	wantCode(t, err, http.StatusConflict, "exists")
}

// Without a client certificate there is no owner.
func TestKeysNeedAnIdentity(t *testing.T) {
	w, log := newWorld(t)
	c := w.caller(nil)
	put, err := json.Marshal(client.PutKey{Name: "app/key", Policy: policy(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		method, path string
		body         []byte
	}{
		{"GET", "/v1/keys", nil}, {"GET", "/v1/keys/app/key", nil}, {"POST", "/v1/keys", put}, {"POST", "/v1/rotate/app/key", nil},
		{"PUT", "/v1/policies/app/key", policy(t, nil)}, {"GET", "/v1/receipts", nil}, {"GET", "/v1/receipts/1", nil},
	} {
		if p := c.refused(r.method, r.path, r.body, http.StatusUnauthorized, "no_identity"); p.Hint == "" {
			t.Errorf("%s %s: no hint", r.method, r.path)
		}
	}
	if n := len(log.Entries()); n != 0 {
		t.Errorf("%d entries are kept", n)
	}
}

func TestRequestsAreReadStrictly(t *testing.T) {
	w, log := newWorld(t)
	c := w.caller(identity(t))
	good := string(policy(t, nil))
	key := func(policy string) string { return `{"name":"app/key","policy":` + policy + `}` }
	for name, body := range map[string]string{
		"empty": "", "not JSON": "CANARY", "null": "null", "another value": `"CANARY"`, "cut": key(good)[:20], "two values": key(good) + "{}",
		"unknown member": `{"name":"app/key","policy":` + good + `,"canary":"CANARY"}`, "a member twice": `{"name":"a","name":"app/key","policy":` + good + `}`,
		"another case": `{"Name":"app/key","policy":` + good + `}`, "another type": `{"name":"app/key","bytes":"CANARY","policy":` + good + `}`,
		"no policy": `{"name":"app/key"}`, "empty policy": key(`{}`), "policy that accepts nothing": key(`{"appraisal":{}}`), "policy of another type": key(`"CANARY"`),
		"lease too short": key(strings.Replace(good, `"lease_seconds":60`, `"lease_seconds":1`, 1)), "lease too long": key(strings.Replace(good, `"lease_seconds":60`, `"lease_seconds":99999999`, 1)),
		"key too small": `{"name":"app/key","bytes":1,"policy":` + good + `}`, "key too large": `{"name":"app/key","bytes":1000000,"policy":` + good + `}`,
		"no material": `{"name":"app/key","material":"","policy":` + good + `}`, "name of another form": `{"name":"../CANARY","policy":` + good + `}`,
		"deep": `{"name":` + strings.Repeat("[", 100_000),
	} {
		if p := c.refused("POST", "/v1/keys", []byte(body), http.StatusBadRequest, "invalid"); strings.Contains(fmt.Sprint(p), "CANARY") {
			t.Errorf("%s: the answer repeats the request: %+v", name, p)
		}
	}
	for _, path := range []string{"/v1/release", "/v1/attest"} {
		c.refused("POST", path, []byte(`{"nonce":"","canary":1}`), http.StatusBadRequest, "invalid")
		c.refused("POST", path, []byte(`{"keys":{}}`), http.StatusBadRequest, "invalid")
	}
	c.refused("PUT", "/v1/policies/app/key", []byte(`{}`), http.StatusNotFound, "not_found") // whose key it is comes first
	c.refused("GET", "/v1/receipts?after=CANARY", nil, http.StatusBadRequest, "invalid")
	c.refused("GET", "/v1/receipts?after=", nil, http.StatusBadRequest, "invalid")
	c.refused("GET", "/v1/receipts/CANARY", nil, http.StatusNotFound, "not_found")
	c.refused("GET", "/v1/receipts/0", nil, http.StatusNotFound, "not_found")
	c.refused("GET", "/v1/identity?nonce="+strings.Repeat("n", 129), nil, http.StatusBadRequest, "invalid")
	if n := len(log.Entries()); n != 0 {
		t.Errorf("%d entries are kept", n)
	}
}

func TestBodyLimit(t *testing.T) {
	w, _ := newWorld(t)
	c := w.caller(identity(t))
	large := append([]byte(`{"name":"`), bytes.Repeat([]byte{'x'}, maxBody)...)
	for _, r := range []struct{ method, path string }{{"POST", "/v1/keys"}, {"POST", "/v1/release"}, {"POST", "/v1/attest"}, {"PUT", "/v1/policies/app/key"}} {
		c.refused(r.method, r.path, large, http.StatusRequestEntityTooLarge, "too_large")
	}
	full := append([]byte(`{"name":"`), bytes.Repeat([]byte{'x'}, maxBody-len(`{"name":""}`))...)
	c.refused("POST", "/v1/keys", append(full, `"}`...), http.StatusBadRequest, "invalid") // just fits
}

func TestErrorsOfKeys(t *testing.T) {
	fits := func(code tee.Code, hint string, cause error) error {
		return fmt.Errorf("keep receipt: %w", &tee.Error{Code: code, Op: "op", Hint: hint, Err: cause})
	}
	cases := []struct {
		err    error
		status int
		code   string
		hint   string
	}{
		{keys.ErrNotFound, 404, "not_found", "key list"},
		{keys.ErrExists, 409, "exists", "another name"},
		{keys.ErrNoIdentity, 401, "no_identity", "client"},
		{keys.ErrNonce, 403, "nonce", "new nonce"},
		{fmt.Errorf("%w: x", keys.ErrInvalid), 400, "invalid", ""},
		{fmt.Errorf("%w: x", attest.ErrPolicy), 400, "invalid", ""},
		{fmt.Errorf("append: %w", syscall.ENOSPC), 507, compute.CodeDisk, "free space"},
		{fmt.Errorf("append: %w", syscall.EROFS), 507, compute.CodeDisk, "free space"},
		{fmt.Errorf("append: %w", syscall.EDQUOT), 507, compute.CodeDisk, "free space"},
		{fmt.Errorf("append: %w", syscall.EIO), 507, compute.CodeDisk, "free space"},
		{fits(tee.CodeUnavailable, "", nil), 503, "unavailable", "by itself"},
		{fits(tee.CodeUnavailable, "own hint", nil), 503, "unavailable", "own hint"},
		{fits(tee.CodeUnavailable, "", syscall.ENOSPC), 507, compute.CodeDisk, "free space"},
		{fits(tee.CodeCounter, "own hint", nil), 500, "counter", "own hint"},
		{tee.Refuse(tee.Software, tee.CodeSignature, "c", "w", "g", "h"), 403, "not_verified", ""},
		{&attest.AppraisalError{Failures: []tee.Failure{{Code: "x"}}}, 403, "refused", ""},
		{&http.MaxBytesError{Limit: maxBody}, 413, "too_large", ""},
		{errors.New("/state/state.log is odd"), 500, "internal", "log"},
		{io.ErrUnexpectedEOF, 500, "internal", ""},
	}
	for _, c := range cases {
		p := problem.From(keyProblem(c.err))
		if p.Status != c.status || p.Code != c.code || !strings.Contains(p.Hint, c.hint) || strings.Contains(p.Detail, "/state") {
			t.Errorf("%v: %+v, want %d %s with a hint of %q", c.err, p, c.status, c.code, c.hint)
		}
	}
}

func TestDiskThatFails(t *testing.T) {
	w, log := newWorld(t)
	n := w.client(identity(t))
	log.Fail(fmt.Errorf("append to state log: %w", syscall.ENOSPC))
	_, err := n.PutKey(t.Context(), client.PutKey{Name: "app/key", Policy: policy(t, nil)})
	if p := wantCode(t, err, http.StatusInsufficientStorage, compute.CodeDisk); p.Hint == "" {
		t.Error("no hint")
	}
	if list, err := n.Keys(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("a key that was not kept is shown: %+v, %v", list, err)
	}
}
