package tpmtest

import (
	"bytes"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Software starts swtpm, a real implementation of TPM 2.0, and returns a connection
// to it, and what waits for its end once that is closed. Its state is in dir: the
// same gives the same TPM again. Where there is no swtpm it skips the test. It ends
// with the test.
func Software(tb testing.TB, dir string) (conn io.ReadWriteCloser, wait func()) {
	tb.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		tb.Skip("no swtpm on this machine: this test talks to a real TPM 2.0 implementation (apt-get install swtpm)")
	}
	socket := filepath.Join(tb.TempDir(), "s")
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear", "--terminate")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		tb.Skipf("swtpm does not start: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if conn, err := net.Dial("unix", socket); err == nil {
			return conn, func() { <-ended }
		}
		select {
		case <-ended:
			tb.Fatalf("swtpm ended: %s", stderr.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
	tb.Fatal("swtpm does not listen")
	return nil, nil
}
