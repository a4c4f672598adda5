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

// TestSWTPM has a real implementation of the specification create keys, quote and
// activate a credential.
func TestSWTPM(t *testing.T) {
	dir := t.TempDir()
	conn, wait := tpmtest.Software(t, dir)
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reportData := [64]byte{1, 2, 3, 63: 4}
	ev, err := a.Evidence(t.Context(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	in := enrolled(t, a)
	claims, findings, err := tpm.New().Verify(ev, in)
	if err != nil {
		t.Fatal(err)
	}
	if [64]byte(claims.ReportData) != reportData || len(claims.Measurement) != 32 || claims.Vendor["ak_trust"] != "enrolled" || claims.Vendor["signature_scheme"] != "ecdsa-sha256" || len(findings) > 0 {
		t.Errorf("claims %+v, findings %v", claims, findings)
	}
	credential(t, a)
	first := a.AK().Name()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wait()
	// The key is the same after a restart.
	conn, _ = tpmtest.Software(t, dir)
	b, err := tpm.NewAttester(conn, tpm.Options{PCRs: []uint32{23, 0, 7, 7}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !bytes.Equal(b.AK().Name(), first) {
		t.Error("the key changes with a restart")
	}
	if ev, err = b.Evidence(t.Context(), reportData); err != nil {
		t.Fatal(err)
	}
	if claims, _, err = tpm.New().Verify(ev, in); err != nil || claims.Measurement != nil {
		t.Errorf("claims %+v, error %v: want none of a measurement, as not all of PCR 0 to 9 are quoted", claims, err)
	}
}

// enrolled is input with the attester's key enrolled.
func enrolled(t *testing.T, a *tpm.Attester) tee.Input {
	t.Helper()
	return tee.Input{At: tpmtest.At, Endorsements: tee.Endorsements{Collateral: trusted(t, a.AK().Key)}}
}

// credential makes challenges for the attester's TPM and has it open them.
func credential(t *testing.T, a *tpm.Attester) {
	t.Helper()
	ek, err := a.EK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("a secret of 32 bytes, no more...")
	blob, encrypted, err := tpm.MakeCredential(ek, a.AK().Name(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 { // sessions and keys must not pile up in the TPM
		got, err := a.ActivateCredential(t.Context(), blob, encrypted)
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("secret %q, error %v", got, err)
		}
	}
	other := bytes.Clone(a.AK().Name())
	other[5] ^= 1
	forOther, forOtherSecret, err := tpm.MakeCredential(ek, other, secret)
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(blob)
	altered[len(altered)-1] ^= 1
	for name, c := range map[string][2][]byte{
		"for another key": {forOther, forOtherSecret}, "altered": {altered, encrypted}, "other seed": {blob, forOtherSecret}, "empty": {nil, nil},
	} {
		for range 4 {
			got, err := a.ActivateCredential(t.Context(), c[0], c[1])
			if !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) || got != nil {
				t.Errorf("%s: secret %q, error %v", name, got, err)
			}
		}
	}
	if got, err := a.ActivateCredential(t.Context(), blob, encrypted); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after failures: secret %q, error %v", got, err)
	}
}

// TestSWTPMRefuses asks for a persistent key that is not there.
func TestSWTPMRefuses(t *testing.T) {
	conn, _ := tpmtest.Software(t, t.TempDir())
	_, err := tpm.NewAttester(conn, tpm.Options{AK: 0x81000001})
	if !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("error %v for a handle without a key, want unavailable", err)
	}
	if e, ok := errors.AsType[*tpm.ResponseError](err); !ok || e.Command != 0x173 || e.Code == 0 {
		t.Errorf("error %v has no response code", err)
	}
}

// TestOpen is about a machine without a TPM, mostly.
func TestOpen(t *testing.T) {
	if _, err := os.Stat(tpm.DevicePath); err == nil {
		t.Skip("this machine has a TPM; tests leave it alone")
	}
	if _, err := tpm.Open(tpm.Options{}); !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("error %v, want unavailable", err)
	}
}

// TestPowerLoss: a TPM that loses its power again and again, in the middle of its work,
// still quotes.
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	for i := range 8 { // wrong guesses lock it after three
		conn, wait := tpmtest.Software(t, dir)
		a, err := tpm.NewAttester(conn, tpm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Evidence(t.Context(), [64]byte{}); err != nil {
			t.Fatalf("after %d power cycles: %v", i, err)
		}
		if err := a.WriteNV(t.Context(), 0x01800001, []byte{byte(i)}); err != nil {
			t.Fatalf("after %d power cycles: %v", i, err)
		}
		credential(t, a)
		_ = conn.Close() // and no TPM2_Shutdown
		wait()
	}
}
