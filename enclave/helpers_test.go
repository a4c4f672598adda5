//go:build linux

package enclave_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/tee"
)

// TestMain also is the program that open_test.go starts with sockets of an agent.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

// wantCode checks the code of a *tee.Error.
func wantCode(tb testing.TB, err error, code tee.Code) {
	tb.Helper()
	e, ok := errors.AsType[*tee.Error](err)
	if !ok || e.Code != code {
		tb.Errorf("got %v, want a *tee.Error with code %s", err, code)
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
