//go:build linux

package enclave_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestEvidenceCarriesTheUserData(t *testing.T) {
	platform := softwaretest.New(t)
	e := enclavetest.On(t, platform, enclavetest.Program{})
	ev, err := e.Evidence(t.Context(), []byte("nonce"))
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := software.New().Verify(ev, tee.Input{Roots: platform.Roots, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if [64]byte(claims.ReportData) != enclave.ReportData([]byte("nonce")) {
		t.Error("the report data is not ReportData of the user data")
	}
	if !claims.Measurement.Equal(e.Self().Measurement) {
		t.Errorf("measurement %s, want that of Self", claims.Measurement)
	}
}

func TestEvidenceBounds(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{})
	if _, err := e.Evidence(t.Context(), make([]byte, call.MaxUserData)); err != nil {
		t.Error(err)
	}
	_, err := e.Evidence(t.Context(), make([]byte, call.MaxUserData+1))
	wantCode(t, err, tee.CodeParse)
}

func TestReportDataIsBoundToPrograms(t *testing.T) {
	if enclave.ReportData([]byte("x")) == enclave.ReportData([]byte("y")) {
		t.Error("two user data have one report data")
	}
	// A program must not be able to have its agent's own bindings signed.
	if enclave.ReportData([]byte("x")) == tee.Bind("cloister agent v1", []byte("x")) {
		t.Error("a program's report data equals that of another context")
	}
}

func TestSealAndUnseal(t *testing.T) {
	key := newKey(t)
	platform := softwaretest.New(t)
	v2 := enclavetest.On(t, platform, enclavetest.Program{Signer: key, SVN: 2})
	v1 := enclavetest.On(t, platform, enclavetest.Program{Signer: key, SVN: 1})
	other := enclavetest.On(t, platform, enclavetest.Program{Signer: newKey(t), SVN: 2})

	exact, err := v2.Seal(tee.SealToMeasurement(), []byte("state"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v2.Unseal(exact, []byte("aad")); err != nil || string(got) != "state" {
		t.Errorf("Unseal = %q, %v", got, err)
	}
	_, err = v1.Unseal(exact, []byte("aad"))
	wantCode(t, err, tee.CodeSealed)
	_, err = v2.Unseal(exact, []byte("other"))
	wantCode(t, err, tee.CodeSealed)

	old, err := v1.Seal(tee.SealToSigner(1), []byte("state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v2.Unseal(old, nil); err != nil || string(got) != "state" {
		t.Errorf("the next version: %q, %v", got, err)
	}
	_, err = other.Unseal(old, nil)
	wantCode(t, err, tee.CodeSealed)
	_, err = v1.Seal(tee.SealPolicy{}, nil, nil)
	wantCode(t, err, tee.CodeSealPolicy)
}

func TestSealingKeyIsThePlatforms(t *testing.T) {
	platform := softwaretest.New(t)
	a := enclavetest.On(t, platform, enclavetest.Program{})
	b := enclavetest.On(t, platform, enclavetest.Program{Args: []string{"other"}})
	k1, err := a.SealingKey(t.Context(), tee.SealToMeasurement(), []byte("context"))
	if err != nil || len(k1) != 32 {
		t.Fatal(k1, err)
	}
	k2, err := a.SealingKey(t.Context(), tee.SealToMeasurement(), []byte("context"))
	if err != nil || !bytes.Equal(k1, k2) {
		t.Error("the same code gets another key", err)
	}
	k3, err := b.SealingKey(t.Context(), tee.SealToMeasurement(), []byte("context"))
	if err != nil || bytes.Equal(k1, k3) {
		t.Error("other code gets the same key", err)
	}
}

func TestCounter(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{})
	ctx := t.Context()
	if v, d, err := e.ReadCounter(ctx, "c"); v != 0 || d != [32]byte{} || err != nil {
		t.Errorf("a new counter: %d %x %v", v, d, err)
	}
	if err := e.AdvanceCounter(ctx, "c", 0, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	if v, d, err := e.ReadCounter(ctx, "c"); v != 1 || d != [32]byte{1} || err != nil {
		t.Errorf("after one step: %d %x %v", v, d, err)
	}
	wantCode(t, e.AdvanceCounter(ctx, "c", 0, [32]byte{2}), tee.CodeCounter)
	wantCode(t, e.AdvanceCounter(ctx, "", 0, [32]byte{2}), tee.CodeParse)
	_, _, err := e.ReadCounter(ctx, "a\nb")
	wantCode(t, err, tee.CodeParse)
}

// TestConcurrentUse: with many goroutines each gets the answer to its own
// question (the race detector watches).
func TestConcurrentUse(t *testing.T) {
	secrets := map[string][]byte{}
	for c := 'a'; c <= 'h'; c++ {
		secrets[string(c)] = []byte{byte(c)}
	}
	e := enclavetest.New(t, enclavetest.Program{Secrets: secrets})
	var wg sync.WaitGroup
	for name, want := range secrets {
		wg.Go(func() {
			for range 50 {
				if got, err := e.Secret(name); err != nil || !bytes.Equal(got, want) {
					t.Errorf("secret %s: %q, %v", name, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestInputOutputState(t *testing.T) {
	in, out, state := t.TempDir(), t.TempDir(), t.TempDir()
	t.Setenv(call.EnvInputs, in)
	t.Setenv(call.EnvOutputs, out)
	t.Setenv(call.EnvState, state)
	e := enclavetest.New(t, enclavetest.Program{})
	for _, path := range []string{filepath.Join(in, "data"), filepath.Join(filepath.Dir(in), "outside")} {
		if err := os.WriteFile(path, []byte("bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := e.Input("data"); err != nil || string(b) != "bytes" {
		t.Errorf("Input = %q, %v", b, err)
	}
	if _, err := e.Input("../outside"); err == nil {
		t.Error("an input outside the directory is read")
	}
	if err := e.Output("../result", []byte("x")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(out, "result"))
	if err != nil || string(b) != "x" {
		t.Errorf("the output lies elsewhere: %q, %v", b, err)
	}
	if e.StateDir() != state {
		t.Errorf("StateDir = %q, want %q", e.StateDir(), state)
	}
}
