package snp_test

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestVerifyEveryProductAndVersion(t *testing.T) {
	for _, p := range []snp.Product{snp.Milan, snp.Genoa, snp.Turin} {
		m := manufacturer(t, p)
		for _, k := range []*snptest.Key{m.VCEK(t, snptest.KeyOptions{}), m.VLEK(t, snptest.KeyOptions{})} {
			for _, version := range []uint32{2, 3, 5} {
				r := k.Report()
				r.Version = version
				claims, findings := verifies(t, k.Evidence(r), m.Input())
				if claims.Vendor["product"] != string(p) || claims.Vendor["signing_key"] != k.Kind.String() || claims.Vendor["version"] != uint64(version) {
					t.Errorf("%s %s version %d: %v", p, k.Kind, version, claims.Vendor)
				}
				if got := codesOf(findings); !slices.Equal(got, []tee.Code{tee.CodeCollateralMissing}) {
					t.Errorf("findings %v, want collateral_missing", findings)
				}
			}
		}
	}
}

func TestClaims(t *testing.T) {
	m := manufacturer(t, snp.Turin)
	k := m.VCEK(t, snptest.KeyOptions{TCB: snp.TCB{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 255}})
	r := k.Report()
	r.GuestSVN, r.VMPL, r.AuthorKeyEn, r.Policy, r.PlatformInfo = 7, 2, true, 0x2030137, 0x24
	r.CurrentTCB[7]--
	r.HostData[0], r.FamilyID[0], r.ImageID[0], r.IDKeyDigest[0], r.AuthorDigest[0] = 1, 2, 3, 4, 5
	got, _ := verifies(t, k.Evidence(r), m.Input())
	tcb := func(microcode uint64) map[string]any {
		return map[string]any{"fmc": uint64(1), "bootloader": uint64(2), "tee": uint64(3), "snp": uint64(4), "microcode": microcode}
	}
	chip := hex.EncodeToString(k.ChipID)
	want := tee.Claims{
		TEE: tee.SNP, Measurement: r.Measurement[:], LaunchDigest: r.HostData[:], SVN: 7, ReportData: r.ReportData[:],
		InstanceID: "1d" + strings.Repeat("00", 31), Platform: chip, TCB: tee.TCBUnknown,
		Vendor: map[string]any{
			"version": uint64(3), "product": "Turin", "signing_key": "vcek", "vmpl": uint64(2), "mask_chip_key": false, "csp_id": "",
			"policy": map[string]any{
				"abi_major": uint64(1), "abi_minor": uint64(0x37), "smt": true, "migrate_ma": false, "debug": false, "single_socket": false, "cxl": false,
				"mem_aes_256_xts": false, "rapl_disabled": false, "ciphertext_hiding_dram": false, "page_swap_disabled": true, "bits": uint64(0x2030137),
			},
			"platform_info": map[string]any{
				"smt": false, "tsme": false, "ecc": true, "rapl_disabled": false, "ciphertext_hiding_dram": false, "alias_check_complete": true, "tio": false, "bits": uint64(0x24),
			},
			"reported_tcb": tcb(255), "current_tcb": tcb(254), "committed_tcb": tcb(255), "launch_tcb": tcb(255),
			"current_firmware": "1.55.29", "committed_firmware": "1.55.29",
			"chip_id": chip + strings.Repeat("00", 56), "family_id": "02" + strings.Repeat("00", 15), "image_id": "03" + strings.Repeat("00", 15),
			"id_key_digest": "04" + strings.Repeat("00", 47), "author_key_enabled": true, "author_key_digest": "05" + strings.Repeat("00", 47),
			"report_id_ma": strings.Repeat("ff", 32), "host_data": "01" + strings.Repeat("00", 31),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClaimsOfVLEK(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VLEK(t, snptest.KeyOptions{CSPID: "some cloud"})
	r := k.Report()
	r.ChipID[0] = 9 // every machine of the provider can say that
	c, _ := verifies(t, k.Evidence(r), m.Input())
	if c.Platform != "some cloud" || c.Vendor["csp_id"] != "some cloud" || c.LaunchDigest != nil || c.Signer != nil {
		t.Errorf("claims %+v", c)
	}
}

func TestDebugIsAClaim(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	for _, debug := range []bool{false, true} {
		r := k.Report()
		if debug {
			r.Policy |= 1 << 19
		}
		if c, _ := verifies(t, k.Evidence(r), m.Input()); c.Debug != debug {
			t.Errorf("debug %t, want %t", c.Debug, debug)
		}
	}
}

func TestClaimsDoNotAlias(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	ev := k.Evidence(k.Report())
	c, _ := verifies(t, ev, m.Input())
	before := bytes.Clone(c.Measurement)
	clear(ev.Data)
	if !bytes.Equal(before, c.Measurement) {
		t.Error("claims change with the evidence")
	}
}

func TestDetect(t *testing.T) {
	k := manufacturer(t, snp.Milan).VCEK(t, snptest.KeyOptions{})
	b := snptest.Encode(k.Report())
	other := bytes.Clone(b)
	other[0x34] = 2
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"report": {b, true}, "new version": {append([]byte{99}, b[1:]...), true}, "empty": {nil, false}, "short": {b[1:], false},
		"long": {append(bytes.Clone(b), 0), false}, "other algorithm": {other, false}, "other bytes": {bytes.Repeat([]byte{1}, len(b)), false},
	} {
		if got := snp.New().Detect(c.data); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestMinimumTCB(t *testing.T) {
	m := manufacturer(t, snp.Turin)
	k := m.VCEK(t, snptest.KeyOptions{TCB: snp.TCB{FMC: 1, Bootloader: 4, TEE: 2, SNP: 24, Microcode: 219}})
	ev := k.Evidence(k.Report())
	for doc, want := range map[string]tee.TCBStatus{
		`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":219}}`: tee.TCBUpToDate,
		`{"Turin":{"fmc":0,"bootloader":0,"tee":0,"snp":0,"microcode":0}}`:    tee.TCBUpToDate,
		`{"Turin":{"fmc":2,"bootloader":4,"tee":2,"snp":24,"microcode":219}}`: tee.TCBOutOfDate,
		`{"Turin":{"fmc":1,"bootloader":5,"tee":2,"snp":24,"microcode":219}}`: tee.TCBOutOfDate,
		`{"Turin":{"fmc":1,"bootloader":4,"tee":3,"snp":24,"microcode":219}}`: tee.TCBOutOfDate,
		`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":25,"microcode":219}}`: tee.TCBOutOfDate,
		`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":220}}`: tee.TCBOutOfDate,
		`{"Milan":{"bootloader":9,"tee":9,"snp":99,"microcode":255}}`:         tee.TCBUnknown,
		`{}`: tee.TCBUnknown,
	} {
		in := m.Input()
		in.Endorsements.Collateral = map[string][]byte{snp.MinimumTCB: []byte(doc)}
		if c, _ := verifies(t, ev, in); c.TCB != want {
			t.Errorf("%s: %s, want %s", doc, c.TCB, want)
		}
	}
	for _, doc := range []string{
		"", "null", "[]", "{", `{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":219}}}`, `{"turin":{}}`,
		`{"Turin":{"bootloader":4,"tee":2,"snp":24,"microcode":219}}`, `{"Turin":{}}`, `{"Milan":null}`,
		`{"Milan":{"fmc":0,"bootloader":4,"tee":2,"snp":24,"microcode":219}}`,
		`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":256}}`,
		`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":219,"ucode":1}}`,
		"{}" + strings.Repeat(" ", 4<<10),
	} {
		in := m.Input()
		in.Endorsements.Collateral = map[string][]byte{snp.MinimumTCB: []byte(doc)}
		refuses(t, ev, in, tee.CodeParse)
	}
}

// TestEveryFlipIsRefused flips bytes of reports: nothing that is signed, and
// nothing else in a report, can change.
func TestEveryFlipIsRefused(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	good := k.Evidence(k.Report())
	v := snp.New()
	rapid.Check(t, func(t *rapid.T) {
		ev := good
		ev.Data = bytes.Clone(good.Data)
		at := rapid.IntRange(0, snp.ReportSize-1).Draw(t, "offset")
		ev.Data[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, _, err := v.Verify(ev, m.Input()); err == nil {
			t.Fatalf("accepted a report with another byte %#x", at)
		}
	})
	for at := range 0x2A0 { // every signed byte once, all in the same bit
		ev := good
		ev.Data = bytes.Clone(good.Data)
		ev.Data[at] ^= 0x10
		if _, _, err := v.Verify(ev, m.Input()); err == nil {
			t.Fatalf("accepted a report with another byte %#x", at)
		}
	}
}

// TestVerdictIsPure asks one verifier for many verdicts in any order and wants
// what a new one says each time: what it remembers changes nothing.
func TestVerdictIsPure(t *testing.T) {
	m, other := manufacturer(t, snp.Milan), snptest.New(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{Validity: snptest.Validity{From: snptest.At.AddDate(0, -1, 0), To: snptest.At.AddDate(0, 1, 0)}})
	ev := k.Evidence(k.Report())
	bare := ev
	bare.Certificates = nil
	withASK := ev
	withASK.Certificates = [][]byte{k.Certificate, m.ASK.Certificate.Raw}
	revoked, clean := m.ARK.CRL(t, snptest.Validity{}, m.ASK.Certificate), m.ARK.CRL(t, snptest.Validity{To: snptest.At.AddDate(0, 0, 7)})
	otherKey := other.VCEK(t, snptest.KeyOptions{})
	evidence := []tee.Evidence{ev, bare, withASK, otherKey.Evidence(otherKey.Report())}
	times := []time.Time{{}, snptest.At, snptest.At.AddDate(0, 0, 14), snptest.At.AddDate(0, 2, 0), snptest.At.AddDate(0, -2, 0)}
	roots := []tee.Roots{m.Roots(), other.Roots(), nil, {m.ARK.Certificate}, {}}
	lists := [][][]byte{nil, {clean}, {revoked}, {other.ARK.CRL(t, snptest.Validity{})}}
	shared := snp.New()
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
		ev := evidence[pick("evidence", len(evidence))]
		in := tee.Input{At: times[pick("at", len(times))], Roots: roots[pick("roots", len(roots))]}
		in.Endorsements.CRLs = lists[pick("lists", len(lists))]
		gotClaims, gotFindings, gotErr := shared.Verify(ev, in)
		wantClaims, wantFindings, wantErr := snp.New().Verify(ev, in)
		if !reflect.DeepEqual(gotClaims, wantClaims) || !reflect.DeepEqual(gotFindings, wantFindings) || !reflect.DeepEqual(gotErr, wantErr) {
			t.Fatalf("remembering gave %v %v, a new verifier %v %v", gotFindings, gotErr, wantFindings, wantErr)
		}
	})
}

// TestConcurrent is for the race detector, and overflows what is remembered.
func TestConcurrent(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	v := snp.New()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			k := m.VCEK(t, snptest.KeyOptions{})
			for range 5 {
				if _, _, err := v.Verify(k.Evidence(k.Report()), m.Input()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
