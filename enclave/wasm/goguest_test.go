//go:build linux

package wasm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/enclavetest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// TestGoGuest: package enclave means the same in a Wasm module as natively.
func TestGoGuest(t *testing.T) {
	program := filepath.Join(t.TempDir(), "goguest.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/goguest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	module, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	platform := softwaretest.New(t)
	e := enclavetest.On(t, platform, enclavetest.Program{
		Args: []string{"one", "zwei \u2028 <&>"}, Signer: signer, SVN: 2,
		Secrets: map[string][]byte{"key": make([]byte, 3000)}, // over the SDK's first guess of its length
	})
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "data"), []byte("given"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	status, err := RunCommand(t.Context(), e, Command{
		Module: module, Args: []string{"goguest"}, MemoryMiB: 64, Stdout: &stdout, Stderr: &stderr,
		Dirs: map[string]string{"/in": in, "/out": out}, ReadOnly: []string{"/in"},
	})
	if status != 0 || err != nil || stderr.Len() > 0 {
		t.Fatalf("status %d, %v: %s", status, err, stderr.Bytes())
	}
	self := e.Self()
	sealed, err := enclave.EncryptAESGCM(make([]byte, 32), make([]byte, 12), []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintln("self", self.TEE, true, false, hex.EncodeToString(self.Measurement), 32, 32, self.InstanceID, self.Args),
		"secret 3000 bytes <nil>\n", "other unavailable\n",
		"evidence software …\n", "long parse\n",
		"seal true <nil> sealed\n", "seal true <nil> sealed\n", "future seal_policy\n", "nobody seal_policy\n", "empty 0 <nil>\n",
		"counter 0 true <nil>\n", "advance <nil>\n", "counter 1 true <nil>\n", "signer <nil>\n", "stale counter\n",
		"aes " + hex.EncodeToString(sealed) + " <nil>\n", "aes text <nil> sealed parse\n",
		"input given <nil>\n", "output <nil> /state\n",
	}
	got := strings.SplitAfter(stdout.String(), "\n")
	var evidence string
	for i := range want {
		if i >= len(got) {
			t.Fatalf("it ends after %q, want %q", got, want[i])
		}
		if rest, ok := strings.CutPrefix(got[i], "evidence software "); ok {
			evidence, got[i] = rest, "evidence software …\n"
		}
		if got[i] != want[i] {
			t.Errorf("it says %q, want %q", got[i], want[i])
		}
	}
	verify(t, platform, evidence)
	if b, err := os.ReadFile(filepath.Join(out, "result")); err != nil || string(b) != "out" {
		t.Errorf("output %q, %v", b, err)
	}
}

// verify checks evidence as the guest prints it: hex, number of certificates,
// error.
func verify(t *testing.T, platform *softwaretest.Platform, printed string) {
	t.Helper()
	text, rest, _ := strings.Cut(printed, " ")
	data, err := hex.DecodeString(text)
	if err != nil || !strings.HasSuffix(rest, " <nil>\n") {
		t.Fatalf("evidence %q", printed)
	}
	claims, _, err := software.New().Verify(tee.Evidence{Kind: tee.Software, Data: data}, tee.Input{Roots: platform.Roots, At: time.Now()})
	if err != nil || [64]byte(claims.ReportData) != enclave.ReportData([]byte("nonce")) {
		t.Errorf("evidence with report data %x, %v", claims.ReportData, err)
	}
}
