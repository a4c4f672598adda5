//go:build linux

package enclavetest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIdentityIsWhatThePlatformMeasured(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{Args: []string{"one", "two"}, Debug: true})
	self := e.Self()
	expect := software.Expect(softwaretest.Runtime, [32]byte(self.LaunchDigest))
	if !expect.Equal(self.Measurement) || !self.Simulated || !self.Debug || self.TEE != tee.Software {
		t.Errorf("identity %+v, want measurement %s, simulated, debug", self, expect)
	}
	if len(self.Args) != 2 || self.InstanceID == "" {
		t.Errorf("identity %+v, want both arguments and a name", self)
	}
}

func TestProgramsDifferByEverythingMeasured(t *testing.T) {
	platform := softwaretest.New(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, p := range []enclavetest.Program{
		{}, {Image: []byte("other")}, {Args: []string{"a"}}, {Debug: true},
		{Signer: key}, {Signer: key, Product: 1}, {Signer: key, SVN: 1},
	} {
		m := string(enclavetest.On(t, platform, p).Self().Measurement)
		if twin, ok := seen[m]; ok {
			t.Errorf("programs %d and %d have one measurement", twin, i)
		}
		seen[m] = i
	}
}

func TestSecrets(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{Secrets: map[string][]byte{"key": []byte("value")}})
	if b, err := e.Secret("key"); err != nil || !bytes.Equal(b, []byte("value")) {
		t.Errorf("Secret = %q, %v", b, err)
	}
	_, err := e.Secret("other")
	if refusal, ok := errors.AsType[*tee.Error](err); !ok || refusal.Code != tee.CodeUnavailable {
		t.Errorf("unknown secret: %v, want code %s", err, tee.CodeUnavailable)
	}
}

func TestWhatNeedsAnInstanceIsRefused(t *testing.T) {
	e := enclavetest.New(t, enclavetest.Program{})
	if _, err := e.Listen(443); err == nil {
		t.Error("Listen succeeds")
	}
	if err := e.Fail(tee.CodeParse, "m", "h"); err == nil {
		t.Error("Fail succeeds")
	}
	if _, err := e.RawAttester().Evidence(t.Context(), [64]byte{}); err == nil {
		t.Error("raw evidence is given")
	}
}
