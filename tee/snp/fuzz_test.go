package snp_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// addReports seeds with every real report at hand.
func addReports(f *testing.F, add func(report, certificate []byte)) {
	f.Helper()
	reports, _ := filepath.Glob(filepath.Join(vectorsDir, "snp-*", "report.bin"))
	for _, name := range append(reports, "testdata/milan-v3-report.bin") {
		report, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var certificate []byte
		names, _ := filepath.Glob(filepath.Join(filepath.Dir(name), "*v?ek.der"))
		for _, n := range names {
			if certificate, err = os.ReadFile(n); err != nil {
				f.Fatal(err)
			}
		}
		add(report, certificate)
	}
}

func FuzzParseReport(f *testing.F) {
	addReports(f, func(report, _ []byte) { f.Add(report) })
	f.Add(snptest.Encode(snp.Report{Version: 5, SigningKey: 7, MaskChipKey: true, AuthorKeyEn: true}))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := snp.ParseReport(b)
		if err != nil {
			if r != nil || !errors.Is(err, tee.ErrNotVerified) {
				t.Fatalf("report %v, error %v", r, err)
			}
			return
		}
		if !snp.New().Detect(b) {
			t.Fatal("a report that Detect does not see")
		}
		// What was read is what was there: writing it again gives every byte that
		// has a meaning here.
		again, err := snp.ParseReport(snptest.Encode(*r))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := snptest.Encode(*again), snptest.Encode(*r); !bytes.Equal(got, want) {
			t.Fatal("reading, writing and reading gives another report")
		}
		_ = snp.KDSURL(r, snp.Milan) + snp.KDSURL(r, snp.Turin)
	})
}

func FuzzVerify(f *testing.F) {
	m := manufacturer(f, snp.Turin)
	key := m.VLEK(f, snptest.KeyOptions{})
	synthetic := key.Evidence(key.Report())
	list := m.ARK.CRL(f, snptest.Validity{})
	addReports(f, func(report, certificate []byte) {
		f.Add(report, certificate, []byte(nil), []byte(nil), int64(1767225600))
	})
	f.Add(synthetic.Data, key.Certificate, list, []byte(`{"Turin":{"fmc":1,"bootloader":4,"tee":2,"snp":24,"microcode":219}}`), int64(1767225600))
	f.Add(synthetic.Data, m.ASK.Certificate.Raw, []byte{}, []byte(`{"Milan":{}}`), int64(0))
	shared := snp.New()
	f.Fuzz(func(t *testing.T, report, certificate, list, minimum []byte, at int64) {
		ev := tee.Evidence{Kind: tee.SNP, Data: report, Certificates: [][]byte{certificate}}
		in := tee.Input{At: time.Unix(at, 0)}
		if list != nil {
			in.Endorsements.CRLs = [][]byte{list}
		}
		if minimum != nil {
			in.Endorsements.Collateral = map[string][]byte{snp.MinimumTCB: minimum}
		}
		for _, roots := range []tee.Roots{nil, m.Roots()} {
			in.Roots = roots
			claims, findings, err := shared.Verify(ev, in)
			againClaims, againFindings, againErr := snp.New().Verify(ev, in)
			if !reflect.DeepEqual(claims, againClaims) || !reflect.DeepEqual(findings, againFindings) || !reflect.DeepEqual(err, againErr) {
				t.Fatalf("one verifier says %v %v, another %v %v", findings, err, againFindings, againErr)
			}
			if err != nil {
				if claims.TEE != "" || !errors.Is(err, tee.ErrNotVerified) {
					t.Fatalf("claims %v, error %v", claims, err)
				}
				continue
			}
			if claims.TEE != tee.SNP || len(claims.Measurement) != 48 || len(claims.ReportData) != 64 || claims.Platform == "" {
				t.Fatalf("claims %+v", claims)
			}
			// What a key signed is all of the report.
			altered := ev
			altered.Data = bytes.Clone(report)
			altered.Data[0x90] ^= 1
			if _, _, err := shared.Verify(altered, in); err == nil {
				t.Fatal("accepted another measurement")
			}
		}
	})
}
