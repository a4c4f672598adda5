package snp_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
)

// oracle asks go-sev-guest, which knows Milan and Genoa, without a network.
func oracle(vcek []byte, at time.Time) func(report []byte) error {
	return func(report []byte) error {
		parsed, err := abi.ReportToProto(report)
		if err != nil {
			return err
		}
		return verify.SnpAttestation(&spb.Attestation{Report: parsed, CertificateChain: &spb.CertificateChain{VcekCert: vcek}},
			&verify.Options{DisableCertFetching: true, Now: at})
	}
}

// TestAgreesWithAnotherVerifier on the recorded report, and on ones that differ
// from it in a byte.
func TestAgreesWithAnotherVerifier(t *testing.T) {
	ev, in := realEvidence(t)
	other, v := oracle(ev.Certificates[0], in.At), snp.New()
	if err := other(ev.Data); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		report := bytes.Clone(ev.Data)
		for range 3 {
			at := rapid.IntRange(0, len(report)-1).Draw(t, "byte")
			report[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
			_, _, ours := v.Verify(tee.Evidence{Kind: tee.SNP, Data: report, Certificates: ev.Certificates}, in)
			if theirs := other(report); (ours == nil) != (theirs == nil) {
				t.Errorf("byte %d: ours %v, theirs %v", at, ours, theirs)
			}
			copy(report, ev.Data)
		}
	})
}

// TestMutations changes every byte of the recorded report in several ways, more
// than 10,000 in all. None is accepted: there is no byte that is not signed, a
// part of the signature, or zero.
func TestMutations(t *testing.T) {
	ev, in := realEvidence(t)
	v := snp.New()
	changes := []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}
	if testing.Short() {
		changes = changes[:1]
	}
	tried := 0
	for i := range ev.Data {
		for _, x := range changes {
			report := bytes.Clone(ev.Data)
			report[i] ^= x
			if _, _, err := v.Verify(tee.Evidence{Kind: tee.SNP, Data: report, Certificates: ev.Certificates}, in); err == nil {
				t.Fatalf("byte %d with %#x is accepted", i, x)
			}
			tried++
		}
	}
	if tried < 10_000 && !testing.Short() {
		t.Errorf("only %d mutations were tried", tried)
	}
}
