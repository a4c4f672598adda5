//go:build linux

package wasm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestSelf(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{Args: []string{"a", "<&\u2028>"}, Debug: true})
	var got selfJSON
	if err := json.Unmarshal(newCaller(t, e, Options{}).output(t, "self"), &got); err != nil {
		t.Fatal(err)
	}
	id := e.Self()
	want := selfJSON{
		TEE: tee.Software, Simulated: true, Debug: true, InstanceID: id.InstanceID, Args: id.Args,
		Measurement: hex.EncodeToString(id.Measurement), LaunchDigest: hex.EncodeToString(id.LaunchDigest),
		RuntimeDigest: hex.EncodeToString(id.RuntimeDigest), Root: hex.EncodeToString(id.Root),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecret(t *testing.T) {
	secret := []byte("the key")
	e := enclavetest.New(t, enclavetest.Program{Secrets: map[string][]byte{"key": secret, strings.Repeat("n", call.MaxName): {1}}})
	c := newCaller(t, e, Options{})
	c.put(t, inAt, []byte("key"))
	if got := c.output(t, "secret", inAt, 3); !bytes.Equal(got, secret) {
		t.Errorf("got %q", got)
	}
	c.fails(t, tee.CodeUnavailable, "secret", inAt, 2, outAt, outSize, lenAt)
	c.put(t, inAt, bytes.Repeat([]byte("n"), call.MaxName+1))
	if got := c.output(t, "secret", inAt, call.MaxName); !bytes.Equal(got, []byte{1}) {
		t.Errorf("the longest name: %x", got)
	}
	if s := c.do(t, "secret", inAt, call.MaxName+1, outAt, outSize, lenAt); s != call.Argument {
		t.Errorf("too long a name: status %d, want %d", s, call.Argument)
	}
}

func TestEvidence(t *testing.T) {
	platform := softwaretest.New(t)
	c := newCaller(t, enclavetest.On(t, platform, enclavetest.Program{}), Options{MemoryMiB: 2})
	c.put(t, inAt, []byte("nonce"))
	var ev tee.Evidence
	if err := json.Unmarshal(c.output(t, "evidence", inAt, 5), &ev); err != nil {
		t.Fatal(err)
	}
	claims, _, err := software.New().Verify(ev, tee.Input{Roots: platform.Roots, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if [64]byte(claims.ReportData) != enclave.ReportData([]byte("nonce")) {
		t.Error("the evidence does not carry the user data")
	}
	if _, ok := c.instance.Memory().Grow(2); !ok {
		t.Fatal("the guest's memory does not grow")
	}
	if s := c.do(t, "evidence", 0, call.MaxUserData+1, outAt, outSize, lenAt); s != call.Argument {
		t.Errorf("too much user data: status %d, want %d", s, call.Argument)
	}
	c.output(t, "evidence", 0, call.MaxUserData)
}

func TestSealAndUnseal(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e := enclavetest.New(t, enclavetest.Program{Signer: key, SVN: 2})
	c := newCaller(t, e, Options{})
	c.put(t, inAt, []byte("state"))
	c.put(t, in2At, []byte("purpose"))
	for policy, want := range map[[2]uint64]tee.SealPolicy{
		{call.PolicyMeasurement, 0}: tee.SealToMeasurement(),
		{call.PolicySigner, 0}:      tee.SealToSigner(0),
		{call.PolicySigner, 2}:      tee.SealToSigner(2),
	} {
		blob := c.output(t, "seal", policy[0], policy[1], inAt, 5, in2At, 7)
		if plain, err := e.Unseal(blob, []byte("purpose")); err != nil || string(plain) != "state" {
			t.Errorf("%v: the program's own SDK opens %q, %v", want, plain, err)
		}
		c.put(t, in3At, blob)
		n := uint64(len(blob))
		if plain := c.output(t, "unseal", in3At, n, in2At, 7); string(plain) != "state" {
			t.Errorf("%v: got %q", want, plain)
		}
		c.fails(t, tee.CodeSealed, "unseal", in3At, n, in2At, 6, outAt, outSize, lenAt)
		c.fails(t, tee.CodeSealed, "unseal", in3At, n-1, in2At, 7, outAt, outSize, lenAt)
	}
	c.fails(t, tee.CodeSealPolicy, "seal", call.PolicySigner, 3, inAt, 5, in2At, 7, outAt, outSize, lenAt)
	for _, policy := range [][2]uint64{{0, 0}, {3, 0}, {call.PolicyMeasurement, 1}} {
		if s := c.do(t, "seal", policy[0], policy[1], inAt, 5, in2At, 7, outAt, outSize, lenAt); s != call.Argument {
			t.Errorf("policy %v: status %d, want %d", policy, s, call.Argument)
		}
	}
}

func TestCounters(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{})
	c := newCaller(t, e, Options{})
	c.put(t, inAt, []byte("visits"))
	read := func() (uint64, []byte) {
		t.Helper()
		if s := c.do(t, "counter_read", call.PolicyMeasurement, inAt, 6, outAt, outAt+8); s != call.OK {
			t.Fatalf("status %d", s)
		}
		return binary.LittleEndian.Uint64(c.get(t, outAt, 8)), c.get(t, outAt+8, 32)
	}
	if v, d := read(); v != 0 || !bytes.Equal(d, make([]byte, 32)) {
		t.Errorf("a new counter stands at %d with %x", v, d)
	}
	digest := bytes.Repeat([]byte{7}, 32)
	c.put(t, in2At, digest)
	if s := c.do(t, "counter_advance", call.PolicyMeasurement, inAt, 6, 0, in2At); s != call.OK {
		t.Fatalf("status %d", s)
	}
	if v, d := read(); v != 1 || !bytes.Equal(d, digest) {
		t.Errorf("the counter stands at %d with %x, want 1 with %x", v, d, digest)
	}
	if v, d, err := e.ReadCounter(context.Background(), "visits"); v != 1 || !bytes.Equal(d[:], digest) || err != nil {
		t.Errorf("the program's own SDK reads %d, %x, %v", v, d, err)
	}
	c.fails(t, tee.CodeCounter, "counter_advance", call.PolicyMeasurement, inAt, 6, 0, in2At)
	c.fails(t, tee.CodeCounter, "counter_advance", call.PolicyMeasurement, inAt, 6, 1<<40+1, in2At) // all 64 bits count
	c.fails(t, tee.CodeParse, "counter_read", call.PolicyMeasurement, inAt, 0, outAt, outAt+8)
	if s := c.do(t, "counter_read", call.PolicyMeasurement, inAt, call.MaxName+1, outAt, outAt+8); s != call.Argument {
		t.Errorf("too long a name: status %d, want %d", s, call.Argument)
	}
}

// TestWhoseCounters: a signer's counters are not the measurement's, and no other
// number names any.
func TestWhoseCounters(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	platform := softwaretest.New(t)
	v1 := newCaller(t, enclavetest.On(t, platform, enclavetest.Program{Image: []byte("\x00asm one"), Signer: signer, SVN: 1}), Options{})
	v2 := newCaller(t, enclavetest.On(t, platform, enclavetest.Program{Image: []byte("\x00asm two"), Signer: signer, SVN: 2}), Options{})
	unsigned := newCaller(t, enclavetest.On(t, platform, enclavetest.Program{}), Options{})
	for _, c := range []*caller{v1, v2, unsigned} {
		c.put(t, inAt, []byte("visits"))
	}
	for _, policy := range []uint64{call.PolicyMeasurement, call.PolicySigner} {
		if s := v1.do(t, "counter_advance", policy, inAt, 6, 0, in2At); s != call.OK {
			t.Fatalf("policy %d: status %d", policy, s)
		}
	}
	v2.fails(t, tee.CodeCounter, "counter_advance", call.PolicySigner, inAt, 6, 0, in2At)
	if s := v2.do(t, "counter_advance", call.PolicyMeasurement, inAt, 6, 0, in2At); s != call.OK {
		t.Errorf("the next version's own counter: status %d", s)
	}
	unsigned.fails(t, tee.CodeSealPolicy, "counter_read", call.PolicySigner, inAt, 6, outAt, outAt+8)
	unsigned.fails(t, tee.CodeSealPolicy, "counter_advance", call.PolicySigner, inAt, 6, 0, in2At)
	for _, policy := range []uint64{0, 3, 1 << 31} {
		if s := v1.do(t, "counter_read", policy, inAt, 6, outAt, outAt+8); s != call.Argument {
			t.Errorf("policy %d: status %d, want %d", policy, s, call.Argument)
		}
		if s := v1.do(t, "counter_advance", policy, inAt, 6, 1, in2At); s != call.Argument {
			t.Errorf("policy %d: status %d, want %d", policy, s, call.Argument)
		}
	}
}

// TestTheReasonOfAFailure keeps its code and hint.
func TestTheReasonOfAFailure(t *testing.T) {
	c := newCaller(t, enclavetest.New(t, enclavetest.Program{}), Options{})
	c.put(t, inAt, []byte("none"))
	c.fails(t, tee.CodeUnavailable, "secret", inAt, 4, outAt, outSize, lenAt)
	if f := c.failure(t); !strings.Contains(f.Message, "no secret of that name") {
		t.Errorf("message %q", f.Message)
	}
	c.fails(t, tee.CodeSealed, "unseal", inAt, 4, in2At, 0, outAt, outSize, lenAt)
	if f := c.failure(t); !strings.Contains(f.Message, "not sealed bytes") {
		t.Errorf("the newest reason is %q", f.Message)
	}
}
