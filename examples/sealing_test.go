//go:build linux

package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// visits is one instance of the example sealing.
type visits struct {
	*platform
	name  string
	state string // directory
}

// newVisits creates the instance without starting it.
func (p *platform) newVisits(t *testing.T, name string, image ...string) *visits {
	t.Helper()
	p.must(t, append([]string{"instance", "create", "--restart", "never", "--no-start", "--name", name}, image...)...)
	i, err := p.describe(t, name)
	if err != nil {
		t.Fatal(err)
	}
	return &visits{p, name, p.state(i)}
}

// visit starts it once and returns its exit status and last lines.
func (v *visits) visit(t *testing.T) (status int, stdout, stderr string) {
	t.Helper()
	v.must(t, "instance", "start", v.name)
	i, stdout, stderr := v.ended(t, v.name)
	if i.Status.ExitCode == nil {
		t.Fatalf("no exit status: %+v", i.Status.Message)
	}
	return *i.Status.ExitCode, stdout, stderr
}

func (v *visits) want(t *testing.T, line string) {
	t.Helper()
	if status, said, stderr := v.visit(t); status != 0 || said != line {
		t.Fatalf("status %d, says %q and %q, want %q", status, said, stderr, line)
	}
}

func (v *visits) refused(t *testing.T, status int, reason string) {
	t.Helper()
	if got, _, said := v.visit(t); got != status || !strings.Contains(said, reason) {
		t.Errorf("status %d, says %q, want status %d and %q", got, said, status, reason)
	}
}

func (v *visits) file() string { return filepath.Join(v.state, "visits.sealed") }

func (v *visits) read(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(v.file())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v *visits) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.MkdirAll(v.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.file(), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

const rollback = 3 // the example's own exit status

func TestSealing(t *testing.T) {
	p := up(t)
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			v := p.newVisits(t, "visits-"+form, program(t, "sealing", form))
			v.want(t, "visit 1")
			first := v.read(t)
			v.want(t, "visit 2")
			second := v.read(t)
			if strings.Contains(string(second), "visits") {
				t.Error("the state is readable")
			}

			v.write(t, first) // the host restores a copy
			v.refused(t, rollback, "rollback: the host gave an older state")
			if err := os.Remove(v.file()); err != nil {
				t.Fatal(err)
			}
			v.refused(t, rollback, "the file is gone")
			altered := append([]byte{}, second...)
			altered[len(altered)-1] ^= 1
			v.write(t, altered)
			v.refused(t, 1, "the bytes were altered")
			v.write(t, second[:len(second)-1])
			v.refused(t, 1, "the bytes were altered")
			v.write(t, nil)
			v.refused(t, 1, "not sealed bytes")

			v.write(t, second) // nothing was lost by trying
			v.want(t, "visit 3")
		})
	}
}

// signed is the command line for an image as version svn of a signer, sealing to
// that signer.
func signed(t *testing.T, p *platform, image, key string, svn int) []string {
	t.Helper()
	n := string(rune('0' + svn))
	sig := filepath.Join(t.TempDir(), "sig")
	p.must(t, "enclave", "sign", image, "--key", key, "--product", "5", "--svn", n, "--to", sig)
	return []string{"--signature", sig, image, "--", "--signer"}
}

func TestSealingToASigner(t *testing.T) {
	p := up(t)
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			image, dir := program(t, "sealing", form), t.TempDir()
			ours, theirs := filepath.Join(dir, "ours.pem"), filepath.Join(dir, "theirs.pem")
			v1 := p.newVisits(t, "v1-"+form, signed(t, p, image, ours, 1)...)
			v1.want(t, "visit 1")
			first := v1.read(t)
			v1.want(t, "visit 2")

			// The host moves the state to the next version's instance: the newest
			// one only, although this version has never seen another.
			v2 := p.newVisits(t, "v2-"+form, signed(t, p, image, ours, 2)...)
			v2.write(t, first)
			v2.refused(t, rollback, "rollback: the host gave an older state")
			v2.write(t, v1.read(t))
			v2.want(t, "visit 3")
			v1.refused(t, rollback, "rollback: the host gave an older state")
			v1.write(t, v2.read(t))

			other := p.newVisits(t, "other-"+form, signed(t, p, image, theirs, 2)...)
			other.write(t, v1.read(t))
			other.refused(t, 1, "sealed by other code")
			unsigned := p.newVisits(t, "unsigned-"+form, image, "--", "--signer")
			unsigned.write(t, v1.read(t))
			unsigned.refused(t, 1, "not signed")
		})
	}
}

// TestUpdateKeepsWhatWasSealed: one instance goes from version to version and counts on;
// what could not open its state is refused before the instance is touched.
func TestUpdateKeepsWhatWasSealed(t *testing.T) {
	p := up(t)
	image, dir := program(t, "sealing", forms[0]), t.TempDir()
	ours, theirs := filepath.Join(dir, "ours.pem"), filepath.Join(dir, "theirs.pem")
	v := p.newVisits(t, "visits", signed(t, p, image, ours, 1)...)
	v.want(t, "visit 1")
	p.must(t, append([]string{"instance", "update", "visits"}, signed(t, p, image, ours, 2)...)...)
	v.want(t, "visit 2")
	for name, args := range map[string][]string{
		"older": signed(t, p, image, ours, 1), "another signer": signed(t, p, image, theirs, 3), "unsigned": {image, "--", "--signer"},
	} {
		if _, said, status := p.cli(t, append([]string{"instance", "update", "visits"}, args...)...); status != 3 || !strings.Contains(said, "hint: sign it as a later version") {
			t.Errorf("%s: status %d, %s", name, status, said)
		}
	}
	v.want(t, "visit 3")
	p.must(t, append([]string{"instance", "update", "visits", "--discard-state"}, signed(t, p, image, theirs, 1)...)...)
	v.want(t, "visit 1") // of another product: it begins anew
}
