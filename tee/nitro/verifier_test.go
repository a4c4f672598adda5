package nitro_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/nitro/nitrotest"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestClaims(t *testing.T) {
	aws, enclave := aws(t)
	f := enclave.Fields()
	f.PCRs = map[uint64][]byte{0: bytes.Repeat([]byte{1}, 48), 8: bytes.Repeat([]byte{8}, 48), 31: make([]byte, 48)}
	f.UserData, f.Nonce, f.PublicKey = bytes.Repeat([]byte{7}, 64), []byte{9}, []byte{10, 11}
	got, findings := verifies(t, enclave.Evidence(t, f), aws.Input())
	want := tee.Claims{
		TEE: tee.Nitro, Measurement: f.PCRs[0], ReportData: f.UserData, InstanceID: f.ModuleID, TCB: tee.TCBUnknown,
		Vendor: map[string]any{
			"module_id": f.ModuleID, "timestamp_ms": f.Timestamp, "public_key": "0a0b", "nonce": "09",
			"pcrs":                map[string]any{"0": strings.Repeat("01", 48), "8": strings.Repeat("08", 48), "31": strings.Repeat("00", 48)},
			"signing_certificate": strings.Repeat("08", 48), "root": sha256Hex(aws.Root.Certificate.Raw),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(findings) != 1 || findings[0].Code != tee.CodeRevocationUnknown {
		t.Errorf("findings %v, want revocation_unknown", findings)
	}
}

// TestRealClaims looks at a real document.
func TestRealClaims(t *testing.T) {
	c, _ := verifies(t, realDocument(t, "nitro-2024-debug.cbor"), tee.Input{At: at2024})
	key, _ := c.Vendor["public_key"].(string)
	if !c.Debug || string(c.ReportData) != "Hello World!\n" || c.Vendor["nonce"] != hex.EncodeToString([]byte("Nonce\n")) || len(key) != 588 ||
		c.Vendor["timestamp_ms"] != uint64(1706120065635) || c.Vendor["signing_certificate"] != "" || c.InstanceID != "i-0e4fe5de7ee5abe78-enc018d3cadd7d66279" {
		t.Errorf("claims %+v", c)
	}
	c, _ = verifies(t, realDocument(t, "nitro-2021.cbor"), tee.Input{At: at2021})
	if c.Debug || c.ReportData != nil || c.Measurement.String()[:16] != "2d151586641b790f" {
		t.Errorf("claims %+v", c)
	}
}

func TestTagged(t *testing.T) {
	aws, enclave := aws(t)
	ev := enclave.Evidence(t, enclave.Fields())
	ev.Data = append([]byte{0xD2}, ev.Data...)
	verifies(t, ev, aws.Input())
	ev.Data = append([]byte{0xD2}, ev.Data...)
	refuses(t, ev, aws.Input(), tee.CodeParse)
}

// TestBundleWithoutRoot: a bundle may leave the root out.
func TestBundleWithoutRoot(t *testing.T) {
	aws, enclave := aws(t)
	f := enclave.Fields()
	f.CABundle = f.CABundle[1:]
	verifies(t, enclave.Evidence(t, f), aws.Input())
}

func TestDetect(t *testing.T) {
	ev := realDocument(t, "nitro-2021.cbor")
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"document": {ev.Data, true}, "tagged": {append([]byte{0xD2}, ev.Data...), true}, "empty": {nil, false},
		"short": {ev.Data[:4], false}, "other": {[]byte("{}"), false}, "other algorithm": {[]byte{0x84, 0x44, 0xA1, 1, 0x38, 0x23}, true},
	} {
		if got := nitro.New().Detect(c.data); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// TestEveryFlipIsRefused changes bytes of a real document: all of the COSE headers
// and the signature, and one in seven of what is signed, as each costs two
// signatures; `make mutations` changes every byte in three ways, more than 10,000
// times. There is no byte that a document can do without.
func TestEveryFlipIsRefused(t *testing.T) {
	good := realDocument(t, "nitro-2021.cbor")
	v := nitro.New()
	in := tee.Input{At: at2021}
	ev := tee.Evidence{Kind: tee.Nitro, Data: bytes.Clone(good.Data)}
	all := os.Getenv("CLOISTER_ALL_MUTATIONS") != ""
	for at := range good.Data {
		if !all && at > 16 && at < len(good.Data)-100 && at%7 != 0 {
			continue
		}
		for i, flip := range []byte{0x01, 0x80, 0xFF} {
			if !all && i != at%3 {
				continue
			}
			ev.Data[at] ^= flip
			if _, _, err := v.Verify(ev, in); err == nil {
				t.Fatalf("accepted a document with another byte %#x", at)
			}
			ev.Data[at] = good.Data[at]
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	good := realDocument(t, "nitro-2024-debug.cbor")
	for n := range good.Data {
		refuses(t, tee.Evidence{Kind: tee.Nitro, Data: good.Data[:n]}, tee.Input{At: at2024}, tee.CodeParse)
	}
	refuses(t, tee.Evidence{Kind: tee.Nitro, Data: append(bytes.Clone(good.Data), 0)}, tee.Input{At: at2024}, tee.CodeParse)
}

// TestVerdictIsPure asks one verifier for many verdicts in any order and wants
// what a new one says each time: what it remembers changes nothing.
func TestVerdictIsPure(t *testing.T) {
	aws, enclave := aws(t)
	other := nitrotest.New(t)
	grafted := nitrotest.NewEnclave(nitrotest.NewAuthority(t, other.Instance, nitrotest.Options{Name: "x", Leaf: true}), aws.Root, aws.Region, aws.Zone, aws.Instance)
	theirs := other.Enclave(t)
	evidence := []tee.Evidence{
		enclave.Evidence(t, enclave.Fields()), theirs.Evidence(t, theirs.Fields()), grafted.Evidence(t, grafted.Fields()), realDocument(t, "nitro-2021.cbor"),
	}
	times := []time.Time{{}, nitrotest.At, at2021, nitrotest.At.AddDate(1, 0, 0)}
	roots := []tee.Roots{nil, {}, {nil}, aws.Roots(), other.Roots(), {aws.Region.Certificate}, {aws.Root.Certificate, other.Root.Certificate}}
	lists := [][][]byte{nil, {aws.Root.CRL(t)}, {aws.Zone.CRL(t, aws.Instance.Certificate)}, {{1}}}
	shared := nitro.New()
	rapid.Check(t, func(t *rapid.T) {
		ev := rapid.SampledFrom(evidence).Draw(t, "evidence")
		in := tee.Input{At: rapid.SampledFrom(times).Draw(t, "at"), Roots: rapid.SampledFrom(roots).Draw(t, "roots")}
		in.Endorsements.CRLs = rapid.SampledFrom(lists).Draw(t, "lists")
		gotClaims, gotFindings, gotErr := shared.Verify(ev, in)
		wantClaims, wantFindings, wantErr := nitro.New().Verify(ev, in)
		if !reflect.DeepEqual(gotClaims, wantClaims) || !reflect.DeepEqual(gotFindings, wantFindings) || !reflect.DeepEqual(gotErr, wantErr) {
			t.Fatalf("remembering gave %v %v, a new verifier %v %v", gotFindings, gotErr, wantFindings, wantErr)
		}
	})
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	aws, enclave := aws(t)
	v := nitro.New()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 3 {
				if _, _, err := v.Verify(enclave.Evidence(t, enclave.Fields()), aws.Input()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestRoot checks the embedded root against its own README.
func TestRoot(t *testing.T) {
	readme, err := os.ReadFile("roots/README.md")
	if err != nil {
		t.Fatal(err)
	}
	c, _ := verifies(t, realDocument(t, "nitro-2021.cbor"), tee.Input{At: at2021})
	root, _ := c.Vendor["root"].(string)
	if root != "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b" || !strings.Contains(string(readme), root) {
		t.Errorf("root %s is not AWS's, or not in the README", root)
	}
}

func codesOf(findings []tee.Finding) []tee.Code {
	var codes []tee.Code
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	return slices.Compact(codes)
}
