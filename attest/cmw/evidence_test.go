package cmw_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/cmw"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func TestEvidenceGoesRound(t *testing.T) {
	for _, kind := range tee.Kinds() {
		for _, ev := range []tee.Evidence{
			{Kind: kind, Data: []byte("report")},
			{Kind: kind, Data: []byte("report"), Certificates: [][]byte{{3}, {1}, {2}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}}},
			{Kind: kind, Data: bytes.Repeat([]byte{1}, tee.MaxEvidence), EventLog: bytes.Repeat([]byte{2}, tee.MaxEventLog)},
		} {
			m, err := cmw.FromEvidence(ev)
			if err != nil {
				t.Fatal(err)
			}
			for _, encode := range []func() ([]byte, error){m.MarshalJSON, m.MarshalCBOR} {
				b, err := encode()
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := cmw.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				got, err := cmw.Evidence(parsed)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(ev, got) { // cmp takes seconds for a log
					t.Errorf("got evidence of %s with %d bytes, %d certificates and a log of %d bytes", got.Kind, len(got.Data), len(got.Certificates), len(got.EventLog))
				}
			}
		}
	}
	if _, err := cmw.FromEvidence(tee.Evidence{Data: []byte{1}}); err == nil {
		t.Error("wrapped evidence of no TEE")
	}
	if _, err := cmw.FromEvidence(tee.Evidence{Kind: tee.SNP}); err == nil {
		t.Error("wrapped no evidence")
	}
}

// tsmReport is what a guest agent sends of what the kernel gave it.
func tsmReport(t *testing.T, provider string, outblob, auxblob []byte) (inJSON, inCBOR []byte) {
	t.Helper()
	text := map[string]string{"provider": provider, "outblob": base64.RawURLEncoding.EncodeToString(outblob)}
	raw := map[string]any{"provider": provider, "outblob": outblob}
	if auxblob != nil {
		text["auxblob"], raw["auxblob"] = base64.RawURLEncoding.EncodeToString(auxblob), auxblob
	}
	var err error
	if inJSON, err = json.Marshal(text); err != nil {
		t.Fatal(err)
	}
	if inCBOR, err = cbor.Marshal(raw); err != nil {
		t.Fatal(err)
	}
	return inJSON, inCBOR
}

func TestEvidenceOfTSM(t *testing.T) {
	vcek := []byte("a certificate")
	table := make([]byte, 48)
	copy(table, []byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd})
	binary.LittleEndian.PutUint32(table[16:], 48)
	binary.LittleEndian.PutUint32(table[20:], uint32(len(vcek)))
	table = append(table, vcek...)
	for _, c := range []struct {
		provider string
		aux      []byte
		want     tee.Evidence
	}{
		{"sev_guest", table, tee.Evidence{Kind: tee.SNP, Data: []byte("blob"), Certificates: [][]byte{vcek}}},
		{"sev_guest", nil, tee.Evidence{Kind: tee.SNP, Data: []byte("blob")}},
		{"tdx_guest", nil, tee.Evidence{Kind: tee.TDX, Data: []byte("blob")}},
	} {
		inJSON, inCBOR := tsmReport(t, c.provider, []byte("blob"), c.aux)
		for suffix, value := range map[string][]byte{"json": inJSON, "cbor": inCBOR} {
			for _, parameter := range []string{"", "; provider=" + c.provider} {
				m := cmw.Record{MediaType: "application/vnd.veraison.tsm-report+" + suffix + parameter, Value: value, Indicators: cmw.EvidenceIndicator}
				got, err := cmw.Evidence(m)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", m.MediaType, d)
				}
			}
		}
	}
}

func TestEvidenceRefuses(t *testing.T) {
	const tsm = "application/vnd.veraison.tsm-report+"
	record := func(mediaType, value string) cmw.Record {
		return cmw.Record{MediaType: mediaType, Value: []byte(value)}
	}
	snp := record("application/vnd.cloister.evidence; tee=sev-snp", "x")
	set := func(m ...cmw.Message) cmw.Collection {
		var c cmw.Collection
		for i, m := range m {
			c.Items = append(c.Items, cmw.Item{Label: cmw.Label{Number: int64(i)}, Message: m})
		}
		return c
	}
	results := snp
	results.Indicators = cmw.AttestationResults
	more := snp
	more.Indicators = cmw.EvidenceIndicator | cmw.Endorsements
	big, bigLog := snp, record(cmw.MediaTypeEventLog, "x")
	big.Value, bigLog.Value = make([]byte, tee.MaxEvidence+1), make([]byte, tee.MaxEventLog+1)
	cert := record(cmw.MediaTypeCertificate, "x")
	cases := []struct {
		name string
		m    cmw.Message
		code tee.Code
	}{
		{"nothing", nil, tee.CodeUnsupported},
		{"zero record", cmw.Record{}, tee.CodeUnsupported},
		{"zero collection", cmw.Collection{}, tee.CodeUnsupported},
		{"content format", cmw.Record{ContentFormat: 263, Value: []byte{1}}, tee.CodeUnsupported},
		{"EAT", record("application/eat+cwt", "x"), tee.CodeUnsupported},
		{"no TEE", record("application/vnd.cloister.evidence", "x"), tee.CodeUnsupported},
		{"unknown TEE", record("application/vnd.cloister.evidence; tee=magic", "x"), tee.CodeUnsupported},
		{"TEE in capitals", record("application/vnd.cloister.evidence; tee=SEV-SNP", "x"), tee.CodeUnsupported},
		{"unknown parameter", record("application/vnd.cloister.evidence; tee=sev-snp; v=2", "x"), tee.CodeUnsupported},
		{"results", results, tee.CodeUnsupported},
		{"evidence and endorsements", more, tee.CodeUnsupported},
		{"too large", big, tee.CodeParse},
		{"two of them", set(snp, snp), tee.CodeUnsupported},
		{"something beside it", set(snp, record("text/plain", "x")), tee.CodeUnsupported},
		{"a collection beside it", set(snp, set(cert)), tee.CodeUnsupported},
		{"certificates alone", set(cert), tee.CodeUnsupported},
		{"two logs", set(snp, record(cmw.MediaTypeEventLog, "x"), record(cmw.MediaTypeEventLog, "y")), tee.CodeUnsupported},
		{"log too large", set(snp, bigLog), tee.CodeParse},
		{"report is no JSON", record(tsm+"json", "x"), tee.CodeParse},
		{"report is no CBOR", record(tsm+"cbor", "x"), tee.CodeParse},
		{"report without a blob", record(tsm+"json", `{"provider":"tdx_guest"}`), tee.CodeParse},
		{"report with padding", record(tsm+"json", `{"provider":"tdx_guest","outblob":"AA=="}`), tee.CodeParse},
		{"report with a member twice", record(tsm+"json", `{"provider":"tdx_guest","outblob":"AA","outblob":"AA"}`), tee.CodeParse},
		{"report of a service", record(tsm+"json", `{"provider":"tdx_guest","outblob":"AA","service_provider":"x"}`), tee.CodeParse},
		{"report of another provider", record(tsm+"json", `{"provider":"arm_cca_guest","outblob":"AA"}`), tee.CodeUnsupported},
		{"report of two providers", record(tsm+"json; provider=sev_guest", `{"provider":"tdx_guest","outblob":"AA"}`), tee.CodeUnsupported},
		{"report with a parameter", record(tsm+"json; x=y", `{"provider":"tdx_guest","outblob":"AA"}`), tee.CodeUnsupported},
		{"quote with certificates", record(tsm+"json", `{"provider":"tdx_guest","outblob":"AA","auxblob":"AA"}`), tee.CodeUnsupported},
		{"report with a broken table", record(tsm+"json", `{"provider":"sev_guest","outblob":"AA","auxblob":"AA"}`), tee.CodeParse},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ev, err := cmw.Evidence(c.m)
			if got := attest.Codes(err); len(got) != 1 || got[0] != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
			if d := cmp.Diff(tee.Evidence{}, ev); d != "" {
				t.Errorf("evidence beside an error: %s", d)
			}
		})
	}
}
