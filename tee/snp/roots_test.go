package snp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"
)

// TestRoots checks each embedded certificate against the fingerprint and the
// name in the source and in roots/README.md.
func TestRoots(t *testing.T) {
	readme, err := os.ReadFile("roots/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range rootNames {
		b, err := rootFiles.ReadFile("roots/" + n.file)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := parsePEM(b)
		if err != nil || len(certs) != 2 {
			t.Fatalf("%s: %d certificates, %v", n.file, len(certs), err)
		}
		for i, want := range []string{n.signer, n.root} {
			sum := sha256.Sum256(certs[i].Raw)
			if got := hex.EncodeToString(sum[:]); got != want {
				t.Errorf("%s, certificate %d: %s, want %s", n.file, i, got, want)
			}
			line := n.file + " | " + []string{"AS", "ARK"}[i]
			if !containsLine(string(readme), line, certs[i].Subject.CommonName+" | "+want) {
				t.Errorf("roots/README.md has no line of %s with %s", line, want)
			}
		}
	}
}

func containsLine(text string, parts ...string) bool {
lines:
	for line := range strings.Lines(text) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		return true
	}
	return false
}

// TestAnchors: every product has a root that issued one signing certificate for
// VCEKs and one for VLEKs.
func TestAnchors(t *testing.T) {
	var c anchorCache
	a, failure := c.lookup(nil)
	if failure != nil {
		t.Fatal(failure)
	}
	if len(a.roots) != 3 || len(a.signers) != 6 || len(a.issuers) != 6 {
		t.Fatalf("%d roots, %d signing certificates, %d of them issued by a root", len(a.roots), len(a.signers), len(a.issuers))
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, p := range products {
		for _, k := range []SigningKey{VCEK, VLEK} {
			found := 0
			for _, i := range a.issuers {
				if len(checkRole(&certificate{Product: p, SigningKey: k}, i)) == 0 {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%d signing certificates for a %s of %s", found, k, p)
			}
		}
	}
	for _, i := range a.issuers {
		if f := append(checkValidity("", i.signer, at), checkValidity("", i.root, at)...); len(f) > 0 {
			t.Errorf("%s: %v", i.signer.Subject.CommonName, f)
		}
		if err := issued(i.root, i.root); err != nil {
			t.Errorf("%s did not sign itself: %v", i.root.Subject.CommonName, err)
		}
	}
}

// TestRootsElsewhere compares the embedded files with those that the module
// google/go-sev-guest has, which its authors took from AMD on their own.
func TestRootsElsewhere(t *testing.T) {
	for file, theirs := range map[string][]byte{"ask_ark_milan.pem": testdata.MilanVcekBytes, "ask_ark_milan_vlek.pem": testdata.MilanVlekBytes} {
		sameCertificates(t, file, theirs)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-sev-guest").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Skipf("the go command does not say where the module is: %v", err)
	}
	for _, n := range rootNames {
		theirs, err := os.ReadFile(filepath.Join(dir, "verify", "trust", n.file))
		if err != nil {
			t.Fatal(err)
		}
		sameCertificates(t, n.file, theirs)
	}
}

func sameCertificates(t *testing.T, file string, theirs []byte) {
	t.Helper()
	ours, err := rootFiles.ReadFile("roots/" + file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parsePEM(ours)
	if err != nil {
		t.Fatal(err)
	}
	want, err := parsePEM(theirs)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%s: %d certificates there, %d here: %v", file, len(want), len(got), err)
	}
	for i := range want {
		if !bytes.Equal(got[i].Raw, want[i].Raw) {
			t.Errorf("%s: certificate %d is another one there", file, i)
		}
	}
}
