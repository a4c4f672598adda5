package sealing_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/sealing"
)

func signed() launch.Document {
	d := launch.New(launch.Wasm, []byte("module"))
	d.Signer, d.Product, d.SVN = bytes.Repeat([]byte{1}, 32), 7, 3
	return d
}

// TestKeys: everything that a key is bound to makes another key.
func TestKeys(t *testing.T) {
	base := func() (sealing.Launch, tee.SealPolicy, string) {
		return sealing.Launch{Domain: "d", Document: signed(), Measurement: []byte("m")}, tee.SealToSigner(2), "ctx"
	}
	secret := bytes.Repeat([]byte{5}, 32)
	seen := map[string]string{}
	for name, change := range map[string]func(*sealing.Launch, *tee.SealPolicy, *string){
		"base":        func(*sealing.Launch, *tee.SealPolicy, *string) {},
		"domain":      func(l *sealing.Launch, _ *tee.SealPolicy, _ *string) { l.Domain = "e" },
		"signer":      func(l *sealing.Launch, _ *tee.SealPolicy, _ *string) { l.Document.Signer = bytes.Repeat([]byte{2}, 32) },
		"product":     func(l *sealing.Launch, _ *tee.SealPolicy, _ *string) { l.Document.Product = 8 },
		"debug":       func(l *sealing.Launch, _ *tee.SealPolicy, _ *string) { l.Document.Debug = true },
		"svn":         func(_ *sealing.Launch, p *tee.SealPolicy, _ *string) { p.SVN = 1 },
		"context":     func(_ *sealing.Launch, _ *tee.SealPolicy, c *string) { *c = "other" },
		"measurement": func(_ *sealing.Launch, p *tee.SealPolicy, _ *string) { *p = tee.SealToMeasurement() },
		"other measurement": func(l *sealing.Launch, p *tee.SealPolicy, _ *string) {
			l.Measurement, *p = []byte("n"), tee.SealToMeasurement()
		},
	} {
		l, p, c := base()
		change(&l, &p, &c)
		key, err := sealing.Key(secret, l, p, []byte(c))
		if err != nil || len(key) != sealing.Size {
			t.Fatalf("%s: %d bytes, %v", name, len(key), err)
		}
		if twin, dup := seen[string(key)]; dup {
			t.Errorf("%s and %s have one key", name, twin)
		}
		seen[string(key)] = name
	}
	// What an update changes makes no other key.
	l, p, c := base()
	l.Document.SVN, l.Document.Args, l.Measurement = 9, []string{"x"}, []byte("another")
	if key, err := sealing.Key(secret, l, p, []byte(c)); err != nil || seen[string(key)] != "base" {
		t.Errorf("an update does not open what its predecessor sealed: %v", err)
	}
	l, p, _ = base()
	none, err1 := sealing.Key(secret, l, p, nil)
	empty, err2 := sealing.Key(secret, l, p, []byte{})
	if !bytes.Equal(none, empty) || err1 != nil || err2 != nil {
		t.Errorf("no context and the empty one differ: %v, %v", err1, err2)
	}
}

func TestKeyRefuses(t *testing.T) {
	for _, c := range []struct {
		doc     launch.Document
		policy  tee.SealPolicy
		context int
		code    tee.Code
	}{
		{signed(), tee.SealPolicy{}, 0, tee.CodeSealPolicy},
		{signed(), tee.SealPolicy{To: "measurement", SVN: 1}, 0, tee.CodeSealPolicy},
		{signed(), tee.SealToSigner(4), 0, tee.CodeSealPolicy},
		{launch.New(launch.Wasm, nil), tee.SealToSigner(0), 0, tee.CodeSealPolicy},
		{signed(), tee.SealToMeasurement(), sealing.MaxContext + 1, tee.CodeParse},
	} {
		key, err := sealing.Key(make([]byte, 32), sealing.Launch{Document: c.doc}, c.policy, make([]byte, c.context))
		if !errors.Is(err, &tee.Error{Code: c.code}) || key != nil {
			t.Errorf("%+v: %x, %v", c.policy, key, err)
		}
	}
}

func Example() {
	secret := bytes.Repeat([]byte{1}, 32) // of the TEE
	l := sealing.Launch{Domain: "example v1", Document: launch.New(launch.Wasm, []byte("module")), Measurement: []byte("measurement")}
	key, err := sealing.Key(secret, l, tee.SealToMeasurement(), []byte("database"))
	fmt.Println(hex.EncodeToString(key[:4]), err)
	l.Measurement = []byte("another")
	key, err = sealing.Key(secret, l, tee.SealToMeasurement(), []byte("database"))
	fmt.Println(hex.EncodeToString(key[:4]), err)
	// Output:
	// be96144b <nil>
	// 7633b736 <nil>
}
