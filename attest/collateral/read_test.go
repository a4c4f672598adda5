package collateral_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
	"github.com/cloister-cc/cloister/tee/sgx"
)

const (
	set   = "../../tee/sgx/testdata/v3-collateral.json"
	quote = "../../tee/sgx/testdata/v3-quote.bin"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestReads every form, and counts what came of it.
func TestReads(t *testing.T) {
	intel := dcaptest.New(t)
	cert, list := intel.Root.Certificate.Raw, intel.Root.CRL(t, dcaptest.Validity{})
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, c := range map[string]struct {
		b                      []byte
		certs, lists, document int
	}{
		"certificate":           {cert, 1, 0, 0},
		"certificate in PEM":    {text("CERTIFICATE", cert), 1, 0, 0},
		"chain":                 {append(text("CERTIFICATE", cert), text("CERTIFICATE", cert)...), 2, 0, 0},
		"list":                  {list, 0, 1, 0},
		"list in PEM":           {text("X509 CRL", list), 0, 1, 0},
		"list in hex":           {[]byte(hex.EncodeToString(list) + "\n"), 0, 1, 0},
		"certificate and list":  {append(text("CERTIFICATE", cert), text("X509 CRL", list)...), 1, 1, 0},
		"document":              {[]byte(` {"a": 1}`), 0, 0, 1},
		"malformed certificate": {[]byte{0x30, 0x82, 0xff, 0xff, 0}, 1, 0, 0},
		"set":                   {must(os.ReadFile(set)), 6, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var e tee.Endorsements
			if err := collateral.Read(&e, "name", c.b); err != nil || len(e.Certificates) != c.certs || len(e.CRLs) != c.lists || len(e.Collateral) != c.document {
				t.Errorf("%d certificates, %d lists, %d documents, %v", len(e.Certificates), len(e.CRLs), len(e.Collateral), err)
			}
		})
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("text"), "an array": []byte("[1]"), "half a document": []byte(`{"a":`), "hex of something": []byte("0011")} {
		var e tee.Endorsements
		if err := collateral.Read(&e, "name", b); !errors.Is(err, collateral.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var e tee.Endorsements
	if err := collateral.Read(&e, "name", make([]byte, collateral.MaxFile+1)); err == nil {
		t.Error("too many bytes are read")
	}
}

// TestSetIsWhole: a set that lacks a part is an error, not a smaller set.
func TestSetIsWhole(t *testing.T) {
	var whole map[string]any
	if err := json.Unmarshal(must(os.ReadFile(set)), &whole); err != nil {
		t.Fatal(err)
	}
	for member := range whole {
		if member == "tcb_info" || member == "qe_identity" {
			continue // without them it is not a set
		}
		for _, bad := range []any{nil, "", "xx", 7} {
			if (member == "tcb_info_signature" || member == "qe_identity_signature") && (bad == nil || bad == "") {
				continue // hex of nothing; the verifier says that it is too short
			}
			changed := map[string]any{}
			maps.Copy(changed, whole)
			changed[member] = bad
			var e tee.Endorsements
			if err := collateral.Read(&e, "set", must(json.Marshal(changed))); err == nil {
				t.Errorf("%s = %v is read", member, bad)
			}
		}
	}
}

// TestSetVerifies: taken apart, a set is still what Intel signed.
func TestSetVerifies(t *testing.T) {
	in := tee.Input{At: time.Date(2025, 6, 20, 12, 0, 0, 0, time.UTC)}
	if err := collateral.Read(&in.Endorsements, "set.json", must(os.ReadFile(set))); err != nil {
		t.Fatal(err)
	}
	claims, findings, err := sgx.New().Verify(tee.Evidence{Kind: tee.SGX, Data: must(os.ReadFile(quote))}, in)
	if err != nil || claims.TCB != tee.TCBConfigurationAndSWHardeningNeeded || len(findings) > 0 {
		t.Errorf("%s, %v, %v", claims.TCB, findings, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(must(os.ReadFile(set)))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e tee.Endorsements
		if err := collateral.Read(&e, "name", b); err == nil && len(e.Certificates)+len(e.CRLs)+len(e.Collateral) == 0 && !hasPEM(b) {
			t.Error("nothing was read, and that is no error")
		}
		for _, l := range e.CRLs {
			_, _ = x509.ParseRevocationList(l)
		}
	})
}

func hasPEM(b []byte) bool {
	block, _ := pem.Decode(b)
	return block != nil
}
