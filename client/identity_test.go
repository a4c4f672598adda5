package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/client"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directory", "identity.pem")
	first, err := client.LoadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v (%v), want 0700", st.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left beside it: %v", entries)
	}
	again, err := client.LoadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := first.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !key.Equal(again.PrivateKey) || !bytes.Equal(first.Certificate[0], again.Certificate[0]) {
		t.Error("the second time it is another identity")
	}
	name, err1 := client.IdentityName(first)
	second, err2 := client.IdentityName(again)
	if err1 != nil || err2 != nil || name != second || len(name) != 64 || strings.ToLower(name) != name {
		t.Errorf("named %s and %s (%v, %v)", name, second, err1, err2)
	}
	other, err := client.LoadIdentity(filepath.Join(t.TempDir(), "identity.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := client.IdentityName(other); n == name {
		t.Error("two identities are one")
	}
	if first.Leaf == nil || first.Leaf.NotAfter.Before(time.Now().AddDate(100, 0, 0)) {
		t.Error("an identity expires, and with it every key of its owner")
	}
}

// Two first commands at once must not make two identities: keys of the one that
// is overwritten would be nobody's.
func TestIdentityIsMadeOnceByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.pem")
	names := make([]string, 16)
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() {
			c, err := client.LoadIdentity(path)
			if err == nil {
				names[i], err = client.IdentityName(c)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, n := range names {
		if n != names[0] {
			t.Fatalf("identities %v", names)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left beside it: %v", entries)
	}
}

func TestIdentityIsRefused(t *testing.T) {
	good := filepath.Join(t.TempDir(), "identity.pem")
	if _, err := client.LoadIdentity(good); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	cert, rest := pem.Decode(b)
	other := filepath.Join(t.TempDir(), "identity.pem")
	if _, err := client.LoadIdentity(other); err != nil {
		t.Fatal(err)
	}
	ob, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	otherCert, _ := pem.Decode(ob)
	cases := []struct {
		name    string
		content []byte
		mode    os.FileMode
		text    string
	}{
		{"readable by the group", b, 0o640, "chmod 600"},
		{"readable by all", b, 0o604, "chmod 600"},
		{"writable by others", b, 0o602, "chmod 600"},
		{"empty", nil, 0o600, "open identity"},
		{"no key", pem.EncodeToMemory(cert), 0o600, "open identity"},
		{"no certificate", rest, 0o600, "open identity"},
		{"cut", b[:len(b)/2], 0o600, "open identity"},
		{"another's certificate", append(pem.EncodeToMemory(otherCert), rest...), 0o600, "open identity"},
		{"not PEM", []byte("hello"), 0o600, "open identity"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity.pem")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			got, err := client.LoadIdentity(path)
			if err == nil || got != nil || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "PRIVATE KEY-----\n") {
				t.Errorf("got %v, want it refused with %q", err, c.text)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.content) {
				t.Errorf("the file was changed: a damaged identity may still be saved by hand (%v)", err)
			}
		})
	}
	if _, err := client.LoadIdentity(t.TempDir()); err == nil {
		t.Error("a directory is an identity")
	}
	if err := os.WriteFile(good, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.LoadIdentity(filepath.Join(good, "identity.pem")); err == nil {
		t.Error("made inside a file")
	}
}
