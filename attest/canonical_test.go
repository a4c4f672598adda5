package attest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// evidences are of every shape that the canonical form tells apart.
func evidences() []tee.Evidence {
	return []tee.Evidence{
		{},
		{Kind: tee.SGX, Data: []byte("quote")},
		{Kind: tee.SNP, Data: []byte("report"), Certificates: [][]byte{[]byte("vcek"), nil, []byte("ask")}},
		{Kind: tee.TPM, Data: bytes.Repeat([]byte{0}, 300), EventLog: []byte("log")},
		{Data: []byte("junk"), Certificates: [][]byte{nil}},
	}
}

// TestCanonicalEvidence: what is written is read again, its SHA-256 is its name,
// and no part of it is it too.
func TestCanonicalEvidence(t *testing.T) {
	for _, ev := range evidences() {
		b := attest.EncodeEvidence(ev)
		if sha256.Sum256(b) != attest.DigestEvidence(ev) {
			t.Errorf("%+v: another digest than that of its form", ev)
		}
		if got, err := attest.DecodeEvidence(b); err != nil || !reflect.DeepEqual(got, ev) {
			t.Errorf("%+v, want %+v, %v", got, ev, err)
		}
		for n := range len(b) {
			if got, err := attest.DecodeEvidence(b[:n]); !errors.Is(err, attest.ErrNotCanonical) {
				t.Fatalf("%d of %d bytes: %+v, %v", n, len(b), got, err)
			}
		}
		if got, err := attest.DecodeEvidence(append(b, 0)); !errors.Is(err, attest.ErrNotCanonical) {
			t.Errorf("a byte more: %+v, %v", got, err)
		}
	}
}

// TestCanonicalFormStays: names that are in receipts stay what they are.
func TestCanonicalFormStays(t *testing.T) {
	var want []byte
	add := func(s string) { want = append(binary.BigEndian.AppendUint64(want, uint64(len(s))), s...) }
	add("cloister evidence v1")
	add("sev-snp")
	add("report")
	want = binary.BigEndian.AppendUint64(want, 2)
	add("vcek")
	add("")
	add("log")
	ev := tee.Evidence{Kind: tee.SNP, Data: []byte("report"), Certificates: [][]byte{[]byte("vcek"), {}}, EventLog: []byte("log")}
	if got := attest.EncodeEvidence(ev); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzDecodeEvidence: there is one form of each evidence.
func FuzzDecodeEvidence(f *testing.F) {
	for _, ev := range evidences() {
		f.Add(attest.EncodeEvidence(ev))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := attest.DecodeEvidence(b)
		if err != nil {
			if !errors.Is(err, attest.ErrNotCanonical) {
				t.Fatalf("got %v, want ErrNotCanonical", err)
			}
			return
		}
		if again := attest.EncodeEvidence(ev); !bytes.Equal(again, b) {
			t.Fatalf("%x is read as the evidence of %x", b, again)
		}
	})
}
