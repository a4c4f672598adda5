package tpm_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

func FuzzParseQuote(f *testing.F) {
	c := chip(f, tpm.ECDSA)
	f.Add(tpmtest.EncodeQuote(c.Quote(make([]byte, 64))))
	f.Add(tpmtest.EncodeQuote(tpm.Quote{}))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := tpm.ParseQuote(b)
		if err != nil {
			if q != nil || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("quote %v, error %v", q, err)
			}
			return
		}
		if again, err := tpm.ParseQuote(tpmtest.EncodeQuote(*q)); err != nil || !bytes.Equal(again.PCRDigest, q.PCRDigest) {
			t.Fatalf("reading, writing and reading gives %v", err)
		}
	})
}

func FuzzParsePublic(f *testing.F) {
	for _, scheme := range []tpm.Scheme{tpm.RSASSA, tpm.ECDSA} {
		f.Add(chip(f, scheme).Public())
	}
	f.Add(tpmtest.EncodePublic(chip(f, tpm.RSAPSS).Key.Public(), tpm.Decrypt, 0, 0, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := tpm.ParsePublic(b)
		if err != nil {
			if p != nil || len(tpm.Failures(err)) != 1 {
				t.Fatalf("key %v, error %v", p, err)
			}
			return
		}
		if !bytes.Equal(p.Bytes(), b) || len(p.Name()) < 34 || tpm.KeyID(p.Key) == "" {
			t.Fatalf("key %+v", p)
		}
	})
}

func FuzzVerify(f *testing.F) {
	c := chip(f, tpm.ECDSA)
	ev, err := c.Evidence(f.Context(), [64]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	in := c.Input(f)
	f.Add(ev.Data, ev.EventLog)
	if b, err := os.ReadFile("testdata/gce-cos85.pb"); err == nil {
		f.Add(b, []byte(nil))
	}
	f.Add([]byte(`{"Static":{"TPMVersion":2},"Log":{"PCRs":[{"Index":1,"Digest":"","DigestAlg":5}]}}`), []byte(nil))
	v := tpm.New()
	f.Fuzz(func(t *testing.T, data, log []byte) {
		claims, _, err := v.Verify(tee.Evidence{Kind: tee.TPM, Data: data, EventLog: log}, in)
		if err != nil {
			if claims.TEE != "" || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("claims %v, error %v", claims, err)
			}
			return
		}
		if claims.TEE != tee.TPM || claims.Platform != tpm.KeyID(c.Key.Public()) || !v.Detect(data) {
			t.Fatalf("claims %+v", claims)
		}
	})
}
