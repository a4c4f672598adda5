package tpm_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestNV has a real implementation of the specification keep bytes.
func TestNV(t *testing.T) {
	dir := t.TempDir()
	conn, wait := tpmtest.Software(t, dir)
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const index, large = 0x01400002, 0x01400003
	unavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
			t.Errorf("%s: %v, want unavailable", what, err)
		}
	}
	_, err = a.ReadNV(t.Context(), index, 64)
	unavailable("an index that is not there", err)
	data := bytes.Repeat([]byte{0xAB}, 1300)
	data[600] = 1
	for range 2 { // defines it, and then not again
		if err := a.WriteNV(t.Context(), large, data); err != nil {
			t.Fatal(err)
		}
		data[0]++
	}
	data[0]--
	if got, err := a.ReadNV(t.Context(), large, 1300); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err = a.ReadNV(t.Context(), large, 1299)
	unavailable("more than the limit", err)
	if err := a.WriteNV(t.Context(), index, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	unavailable("more than fits", a.WriteNV(t.Context(), index, make([]byte, 65)))
	unavailable("a handle of another kind", a.WriteNV(t.Context(), 0x81000001, make([]byte, 64)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.ReadNV(ctx, index, 64)
	unavailable("canceled", err)
	unavailable("canceled", a.WriteNV(ctx, index, nil))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wait()
	conn, _ = tpmtest.Software(t, dir)
	if a, err = tpm.NewAttester(conn, tpm.Options{}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := a.ReadNV(t.Context(), large, 2048); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a restart: %d bytes, %v", len(got), err)
	}
}

func FuzzParseNVPublic(f *testing.F) {
	f.Add([]byte("\x01\x40\x00\x01\x00\x0B\x00\x06\x00\x06\x00\x00\x0A\x28"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, attributes, size, err := tpm.ParseNVPublic(b)
		if err == nil && len(b) < 14 || err != nil && (index != 0 || attributes != 0 || size != 0) || size > 1<<16 {
			t.Fatalf("index %#x of %d bytes, error %v", index, size, err)
		}
	})
}
