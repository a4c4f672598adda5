package nitro_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
)

func FuzzParseDocument(f *testing.F) {
	_, enclave := aws(f)
	f.Add(realDocument(f, "nitro-2021.cbor").Data)
	f.Add(realDocument(f, "nitro-2024-debug.cbor").Data)
	f.Add(append([]byte{0xD2}, enclave.Evidence(f, enclave.Fields()).Data...))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := nitro.ParseDocument(b)
		if err != nil {
			if d != nil || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("document %v, error %v", d, err)
			}
			return
		}
		if !nitro.New().Detect(b) || len(d.PCRs[0]) != 48 || d.Timestamp == 0 || len(d.CABundle) == 0 {
			t.Fatalf("document %+v", d)
		}
	})
}

func FuzzVerify(f *testing.F) {
	aws, enclave := aws(f)
	f.Add(realDocument(f, "nitro-2021.cbor").Data, []byte(nil), at2021.Unix())
	f.Add(enclave.Evidence(f, enclave.Fields()).Data, aws.Root.CRL(f, aws.Region.Certificate), int64(1767225600))
	shared := nitro.New()
	f.Fuzz(func(t *testing.T, document, list []byte, at int64) {
		ev := tee.Evidence{Kind: tee.Nitro, Data: document}
		in := tee.Input{At: time.Unix(at, 0)}
		if list != nil {
			in.Endorsements.CRLs = [][]byte{list}
		}
		for _, roots := range []tee.Roots{nil, aws.Roots()} {
			in.Roots = roots
			claims, findings, err := shared.Verify(ev, in)
			againClaims, againFindings, againErr := nitro.New().Verify(ev, in)
			if !reflect.DeepEqual(claims, againClaims) || !reflect.DeepEqual(findings, againFindings) || !reflect.DeepEqual(err, againErr) {
				t.Fatalf("one verifier says %v %v, another %v %v", findings, err, againFindings, againErr)
			}
			if err != nil {
				if claims.TEE != "" || !errors.Is(err, tee.ErrNotVerified) {
					t.Fatalf("claims %v, error %v", claims, err)
				}
				continue
			}
			// What a key signed is all of the document.
			altered := tee.Evidence{Kind: tee.Nitro, Data: bytes.Replace(document, []byte("SHA384"), []byte("SHA383"), 1)}
			if _, _, err := shared.Verify(altered, in); err == nil {
				t.Fatal("accepted another document")
			}
		}
	})
}
