//go:build linux

package wasm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
)

func TestHash(t *testing.T) {
	c := newCaller(t, nil, Options{})
	rapid.Check(t, func(r *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(r, "data")
		c.put(t, inAt, data)
		d256, d384, d512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
		for alg, want := range map[uint64][]byte{call.SHA256: d256[:], call.SHA384: d384[:], call.SHA512: d512[:]} {
			if got := c.output(t, "hash", alg, inAt, uint64(len(data))); !bytes.Equal(got, want) {
				r.Fatalf("algorithm %d of %x: %x, want %x", alg, data, got, want)
			}
		}
	})
	for _, alg := range []uint64{0, 4, 1<<32 - 1} {
		if s := c.do(t, "hash", alg, inAt, 1, outAt, outSize, lenAt); s != call.Argument {
			t.Errorf("algorithm %d: status %d, want %d", alg, s, call.Argument)
		}
	}
	// The output may be the input.
	c.put(t, inAt, []byte("abc"))
	want := sha256.Sum256([]byte("abc"))
	if s := c.do(t, "hash", call.SHA256, inAt, 3, inAt, 32, lenAt); s != call.OK || !bytes.Equal(c.get(t, inAt, 32), want[:]) {
		t.Errorf("in place: status %d, %x", s, c.get(t, inAt, 32))
	}
}

func TestAEAD(t *testing.T) {
	c := newCaller(t, nil, Options{})
	rapid.Check(t, func(r *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "key")
		nonce := rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(r, "nonce")
		plain := rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(r, "plain")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(r, "aad")
		block, err := aes.NewCipher(key)
		if err != nil {
			r.Fatal(err)
		}
		g, err := cipher.NewGCM(block)
		if err != nil {
			r.Fatal(err)
		}
		sealed := g.Seal(nil, nonce, plain, aad)
		c.put(t, inAt, append(bytes.Clone(key), nonce...))
		c.put(t, in2At, aad)
		c.put(t, in3At, plain)
		aadLen := uint64(len(aad))
		if got := c.output(t, "aead_seal", inAt, inAt+32, in2At, aadLen, in3At, uint64(len(plain))); !bytes.Equal(got, sealed) {
			r.Fatalf("sealed %x, want %x", got, sealed)
		}
		c.put(t, in3At, sealed)
		if got := c.output(t, "aead_open", inAt, inAt+32, in2At, aadLen, in3At, uint64(len(sealed))); !bytes.Equal(got, plain) {
			r.Fatalf("opened %x, want %x", got, plain)
		}
		flip := rapid.IntRange(0, len(sealed)-1).Draw(r, "flip")
		sealed[flip] ^= 1
		c.put(t, in3At, sealed)
		c.fails(t, tee.CodeSealed, "aead_open", inAt, inAt+32, in2At, aadLen, in3At, uint64(len(sealed)), outAt, outSize, lenAt)
		c.fails(t, tee.CodeSealed, "aead_open", inAt, inAt+32, in2At, aadLen, in3At, 15, outAt, outSize, lenAt)
	})
}

func TestRandom(t *testing.T) {
	c := newCaller(t, nil, Options{MemoryMiB: 2})
	zero := make([]byte, 64)
	c.put(t, outAt, zero)
	for range 2 {
		before := c.get(t, outAt, 64)
		if s := c.do(t, "random", outAt, 32); s != call.OK {
			t.Fatalf("status %d", s)
		}
		after := c.get(t, outAt, 64)
		if bytes.Equal(before[:32], after[:32]) || !bytes.Equal(after[32:], zero[:32]) {
			t.Errorf("%x after %x: want 32 new bytes and no more", after, before)
		}
	}
	if s := c.do(t, "random", outAt, 0); s != call.OK {
		t.Errorf("no bytes: status %d", s)
	}
	if _, ok := c.instance.Memory().Grow(16); !ok {
		t.Fatal("the guest's memory does not grow")
	}
	if s := c.do(t, "random", 0, maxRandom+1); s != call.Argument {
		t.Errorf("too many: status %d, want %d", s, call.Argument)
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	c := newCaller(t, nil, Options{Stderr: &out})
	for _, line := range []struct{ level, text, want string }{
		{"\x00", "plain ASCII", "debug: plain ASCII\n"},
		{"\x01", "äöü 測試", "info: äöü 測試\n"},
		{"\x02", "a\nerror: fake line\r\x1b[31mred", `warning: a\nerror: fake line\r\x1b[31mred` + "\n"},
		{"\x03", "quote \" and \\ and \u202e", `error: quote \" and \\ and \u202e` + "\n"},
		{"\x01", "\xff\xfe", `info: \xff\xfe` + "\n"},
		{"\x01", "", "info: \n"},
	} {
		out.Reset()
		c.put(t, inAt, []byte(line.text))
		if s := c.do(t, "log", uint64(line.level[0]), inAt, uint64(len(line.text))); s != call.OK || out.String() != line.want {
			t.Errorf("status %d, logged %q, want %q", s, out.String(), line.want)
		}
	}
	out.Reset()
	c.put(t, inAt, bytes.Repeat([]byte("x"), maxLogLine+1))
	if s := c.do(t, "log", 1, inAt, maxLogLine+1); s != call.OK || strings.Count(out.String(), "x") != maxLogLine || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("status %d, a line of %d bytes, want it cut at %d", s, out.Len(), maxLogLine)
	}
	out.Reset()
	if s := c.do(t, "log", 4, inAt, 1); s != call.Argument || out.Len() > 0 {
		t.Errorf("level 4: status %d, logged %q", s, out.String())
	}
}

// TestLogThatCannotBeWritten is an error of the call, not of the module.
func TestLogThatCannotBeWritten(t *testing.T) {
	c := newCaller(t, nil, Options{Stderr: writerFunc(func([]byte) (int, error) { return 0, errors.New("disk full") })})
	c.fails(t, tee.CodeUnavailable, "log", 1, inAt, 1)
}
