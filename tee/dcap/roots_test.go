package dcap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRoots checks each embedded certificate against the fingerprint in the
// source and in roots/README.md, and that the root issued what is not itself.
func TestRoots(t *testing.T) {
	readme, err := os.ReadFile("roots/README.md")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := embeddedCertificates()
	if err != nil {
		t.Fatal(err)
	}
	root := certs[0]
	for i, c := range certs {
		sum := sha256.Sum256(c.Raw)
		if got := hex.EncodeToString(sum[:]); got != embeddedFiles[i].sha256 || !strings.Contains(string(readme), embeddedFiles[i].file+" | "+c.Subject.CommonName) || !strings.Contains(string(readme), got) {
			t.Errorf("%s: %s is not the certificate of roots/README.md", embeddedFiles[i].file, got)
		}
		if i > 0 && !issued(c, root) {
			t.Errorf("%s is not of the root", embeddedFiles[i].file)
		}
	}
	files, err := filepath.Glob("roots/*.pem")
	if err != nil || len(files) != len(embeddedFiles) {
		t.Errorf("%d files, %v", len(files), err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, i := range []int{0, 1, 2, 4} {
		if f := (chain{certs[i]}).checkDates(at); len(f) > 0 {
			t.Errorf("%v", f)
		}
	}
}

// TestRootIsTheOneOthersTrust compares the root with the copy that a public
// module embeds.
func TestRootIsTheOneOthersTrust(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	if err != nil {
		t.Skip("go-tdx-guest is not at hand: ", err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "verify", "trusted_root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	certs, err := embeddedCertificates()
	if err != nil || block == nil || !bytes.Equal(block.Bytes, certs[0].Raw) {
		t.Errorf("another root: %v", err)
	}
}

func TestMemoForgetsTheOldest(t *testing.T) {
	var m memo[int]
	id := func(n int) digest { return digestOf(digest{}, []byte{byte(n), byte(n >> 8)}) }
	for n := range maxRemembered + 1 {
		m.put(id(n), n)
		m.put(id(n), n)
	}
	if _, ok := m.get(id(0)); ok || len(m.results) != maxRemembered || len(m.order) != maxRemembered {
		t.Errorf("%d results, the first is still there: %t", len(m.results), ok)
	}
	if n, ok := m.get(id(maxRemembered)); !ok || n != maxRemembered {
		t.Errorf("the newest: %d, %t", n, ok)
	}
}
