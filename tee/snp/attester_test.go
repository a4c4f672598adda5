package snp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/uuid"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
	"github.com/cloister-cc/cloister/tee/tsm"
	"github.com/cloister-cc/cloister/tee/tsm/tsmtest"
)

const (
	guidVCEK  = "63da758d-e664-4564-adc5-f4b93be8accd"
	guidASK   = "4ab7b379-bbac-4fe4-a02f-05aef327c782"
	guidOther = "01234567-89ab-cdef-0123-456789abcdef"
)

// table is what a host gives its guests.
func table(t testing.TB, entries ...any) []byte {
	t.Helper()
	head, at := []byte{}, uint32(24*(len(entries)/2+1))
	var body []byte
	for i := 0; i < len(entries); i += 2 {
		guid, err := hex.DecodeString(strings.ReplaceAll(entries[i].(string), "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		cert := entries[i+1].([]byte)
		head = append(head, guid...)
		head = binary.LittleEndian.AppendUint32(head, at+uint32(len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(cert)))
		body = append(body, cert...)
	}
	return append(append(head, make([]byte, 24)...), body...)
}

// TestAttester gets a report from a kernel and verifies it with the certificates
// that came along.
func TestAttester(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	kernel := &tsmtest.Kernel{Provider: tsm.SEVGuest, Report: func(reportData []byte) ([]byte, error) {
		r := k.Report()
		copy(r.ReportData[:], reportData)
		return k.Evidence(r).Data, nil
	}, Auxiliary: func() []byte {
		return table(t, guidOther, []byte("a host's own"), guidVCEK, k.Certificate, guidASK, m.ASK.Certificate.Raw)
	}}
	a := snp.Attester{TSM: tsm.Client{Files: kernel}}
	ev, err := a.Evidence(t.Context(), [64]byte{7})
	if err != nil || ev.Kind != tee.SNP || a.Kind() != tee.SNP || len(ev.Certificates) != 2 {
		t.Fatal(len(ev.Certificates), err)
	}
	claims, _, err := snp.New().Verify(ev, m.Input())
	if err != nil || claims.ReportData[0] != 7 {
		t.Errorf("%v, %v", claims, err)
	}
	kernel.Auxiliary = nil
	if ev, err := a.Evidence(t.Context(), [64]byte{}); err != nil || ev.Certificates != nil {
		t.Errorf("without a table: %d certificates, %v", len(ev.Certificates), err)
	}
	kernel.Auxiliary = func() []byte { return []byte("junk that is longer than an entry of the table") }
	unavailable(t, a)
	kernel.Auxiliary, kernel.Provider = nil, tsm.TDXGuest
	unavailable(t, a)
	kernel.Provider = ""
	unavailable(t, a)
}

func unavailable(t *testing.T, a tee.Attester) {
	t.Helper()
	_, err := a.Evidence(t.Context(), [64]byte{})
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeUnavailable {
		t.Errorf("%v, want unavailable", err)
	}
}

func TestCertificateTable(t *testing.T) {
	many := []any{}
	for range 17 {
		many = append(many, guidVCEK, []byte{1})
	}
	outside := table(t, guidVCEK, []byte{1})
	outside[20] = 2
	for name, b := range map[string][]byte{
		"outside": outside, "no end": table(t, guidVCEK, []byte{1})[:24], "too many": table(t, many...), "too large": make([]byte, 64<<10+1), "short": {1},
	} {
		if certs, err := snp.ParseCertificateTable(b); err == nil {
			t.Errorf("%s: %d certificates", name, len(certs))
		}
	}
	certs, err := snp.ParseCertificateTable(table(t, guidVCEK, []byte("one"), guidASK, []byte{}, guidASK, []byte("two")))
	if err != nil || len(certs) != 2 || !bytes.Equal(certs[1], []byte("two")) {
		t.Errorf("%q, %v", certs, err)
	}
	if certs, err := snp.ParseCertificateTable(nil); certs != nil || err != nil {
		t.Errorf("%v, %v", certs, err)
	}
}

// TestCertificateTableOfOthers reads what another implementation writes.
func TestCertificateTableOfOthers(t *testing.T) {
	other := &abi.CertTable{Entries: []abi.CertTableEntry{
		{GUID: uuid.MustParse(abi.VcekGUID), RawCert: []byte("vcek")}, {GUID: uuid.MustParse(abi.VlekGUID), RawCert: []byte("vlek")},
		{GUID: uuid.MustParse(abi.ExtraPlatformInfoGUID), RawCert: []byte("other")},
		{GUID: uuid.MustParse(abi.AskGUID), RawCert: []byte("ask")}, {GUID: uuid.MustParse(abi.ArkGUID), RawCert: []byte("ark")},
	}}
	certs, err := snp.ParseCertificateTable(other.Marshal())
	if err != nil || string(bytes.Join(certs, []byte(" "))) != "vcek vlek ask ark" {
		t.Errorf("%q, %v", certs, err)
	}
}

func FuzzCertificateTable(f *testing.F) {
	f.Add(table(f, guidVCEK, []byte("one"), guidASK, []byte("two")))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := snp.ParseCertificateTable(b)
		if len(certs) > 16 || err != nil && certs != nil {
			t.Fatalf("%d certificates, %v", len(certs), err)
		}
	})
}
