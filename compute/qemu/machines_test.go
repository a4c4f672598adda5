package qemu_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// refusal is how an instance has to fail.
type refusal struct {
	code    string // of the instance
	failure string // code of the first failure of the node, if it refused
	differs string // the register, and what is measured into it
	text    string // in the message
}

func (r refusal) check(t *testing.T, i compute.Instance) {
	t.Helper()
	s := i.Status
	if s.State != compute.Failed || s.Code != r.code {
		t.Fatalf("%s, %s: %s (%v); want %s", s.State, s.Code, s.Message, s.Failures, r.code)
	}
	if r.failure != "" && (len(s.Failures) == 0 || string(s.Failures[0].Code) != r.failure || s.Failures[0].Hint == "") {
		t.Errorf("failures %v, want %s with a hint", s.Failures, r.failure)
	}
	differs := ""
	for _, d := range s.Differences {
		differs += d.Claim + ": " + d.Hint + "; "
	}
	if (r.differs == "") != (differs == "") || !strings.Contains(differs, r.differs) {
		t.Errorf("differs %q, want %q", differs, r.differs)
	}
	if !strings.Contains(s.Message, r.text) {
		t.Errorf("message %q, want %q in it", s.Message, r.text)
	}
}

// TestMachines: a machine gets its secret, and whatever its host changes of it, it is
// refused with a named cause.
func TestMachines(t *testing.T) {
	l := newLab(t)
	// The parallel tests have all ended when this one returns.
	t.Run("group", func(t *testing.T) {
		t.Run("as it should be", func(t *testing.T) { t.Parallel(); l.good(t) })
		for name, c := range l.tampers() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				i := l.create(t, strings.ReplaceAll(name, " ", "-"), c.policy, c.own, c.program)
				c.change(t, i)
				c.want.check(t, i.starts(t))
			})
		}
		t.Run("rolled back TPM", func(t *testing.T) { t.Parallel(); l.rolledBack(t) })
		t.Run("copied directory", func(t *testing.T) { t.Parallel(); l.copied(t) })
	})
	l.hunt(t)
}

// good runs a machine to its secret, and again after a stop.
func (l *lab) good(t *testing.T) {
	i := l.create(t, "good", "", nil, nil)
	want := fmt.Sprintf("secret %x, simulated true", sha256.Sum256([]byte(canary)))
	for range 2 {
		got := i.starts(t)
		if got.Status.State != compute.Running || len(got.Status.Differences) > 0 {
			t.Fatalf("%+v", got.Status)
		}
		log := ""
		for range 600 {
			if log = l.run(t, "instance", "logs", "good"); strings.Contains(log, want) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !strings.Contains(log, want) {
			t.Errorf("log %q, want %q", log, want)
		}
		l.verifies(t, "good")
		i.stops(t)
	}
}

// verifies has somebody else verify the evidence of a machine, with nothing but files,
// and compare it with what was computed.
func (l *lab) verifies(t *testing.T, name string) {
	t.Helper()
	file := func(name, content string) string {
		path := filepath.Join(l.work, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	evidence, root := file("evidence.json", l.run(t, "attest", "evidence", name)), file("tpm-ca.pem", l.run(t, "attest", "tpm-ca"))
	policy := file("outside.yaml", "version: 1\nname: outside\naccept: [tpm-vm]\nallow_simulated: true\nmeasurements: [any]\ntcb: [any]\n")
	out := l.run(t, "attest", "verify", "--evidence", evidence, "--roots", root, "--policy", policy, "-o", "json")
	if !strings.Contains(out, `"simulated": true`) || !strings.Contains(out, `"accepted": true`) {
		t.Errorf("verified outside: %.2000s", out)
	}
}

type tampering struct {
	policy       string
	own, program []string // arguments of the host
	change       func(*testing.T, *instance)
	want         refusal
}

func (l *lab) tampers() map[string]tampering {
	measured := func(differs string) refusal {
		return refusal{code: "refused", failure: "measurement", differs: differs, text: differs[:strings.Index(differs, ":")] + " differs"}
	}
	arguments := func(sed string) func(*testing.T, *instance) {
		return func(t *testing.T, i *instance) { i.tamper(t, sed) }
	}
	altered := func(file string, change func([]byte) []byte) string {
		b, err := os.ReadFile(file)
		path := filepath.Join(l.work, filepath.Base(file)+".altered")
		if err == nil {
			err = os.WriteFile(path, change(b), 0o600)
		}
		if err != nil {
			panic(err)
		}
		return path
	}
	nothing := func(*testing.T, *instance) {}
	const signed = "accept: [tpm-vm]\nallow_simulated: true\nmeasurements: [MEASUREMENT]\ntcb: [any]\n"
	return map[string]tampering{
		"command line": {change: arguments(`s/^panic=-1 quiet/panic=-1 evil=1 quiet/`), want: measured("PCR 9: kernel command line")},
		"firmware":     {change: arguments(`s#OVMF_CODE_4M\.fd#OVMF_CODE_4M.secboot.fd#`), want: measured("PCR 0: firmware")},
		"size":         {change: arguments(`s/^256$/320/`), want: measured("PCR 0: firmware, or size")},
		"kernel": {change: func(t *testing.T, i *instance) {
			evil := altered(l.kernel, func(b []byte) []byte { b[0x1F1-1] ^= 1; return b }) // before the header, where nothing is
			i.tamper(t, "s#^"+l.kernel+"$#"+evil+"#")
		}, want: measured("PCR 4: kernel")},
		"initrd": {change: func(t *testing.T, i *instance) {
			disks, err := filepath.Glob(filepath.Join(l.data, "machines", "initrd-*"))
			if err != nil || len(disks) == 0 {
				t.Fatal(disks, err)
			}
			evil := altered(disks[0], func(b []byte) []byte { return append(b, make([]byte, 512)...) })
			i.tamper(t, "s#^"+disks[0]+"$#"+evil+"#")
		}, want: refusal{code: "refused", failure: "measurement", differs: "PCR 9: kernel command line, or initial RAM disk", text: "PCR 9 differs"}},
		"debug":           {own: []string{"--debug"}, change: nothing, want: refusal{code: "refused", failure: "debug"}},
		"launch document": {program: []string{"--evil"}, change: nothing, want: refusal{code: "refused", failure: "launch_digest"}},
		"image": {change: func(t *testing.T, i *instance) {
			i.alter(t, "image-*", func(b []byte) []byte { return append(b, 0) })
		}, want: refusal{code: "image_mismatch"}},
		"simulated where hardware is wanted": {policy: strings.ReplaceAll(signed, "allow_simulated: true\n", ""), change: nothing,
			want: refusal{code: "refused", failure: "simulated"}},
		"unsigned where a signer is wanted": {policy: signed + "signers: [{signer: " + strings.Repeat("ab", 32) + ", product: 1, min_svn: 2}]\n", change: nothing,
			want: refusal{code: "refused", failure: "signer"}},
		"foreign tpm": {change: func(t *testing.T, i *instance) { // of another platform's making
			if err := os.MkdirAll(filepath.Join(string(i.dir), "tpm"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(string(i.dir), "tpm", "made"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, want: refusal{code: "no_ek_certificate"}},
	}
}

// rolledBack puts back an older state of a machine's TPM.
func (l *lab) rolledBack(t *testing.T) {
	i := l.create(t, "rollback", "", nil, nil)
	tpm, before := filepath.Join(string(i.dir), "tpm"), filepath.Join(l.work, "tpm-before")
	for n := range 2 {
		if got := i.starts(t); got.Status.State != compute.Running {
			t.Fatalf("%+v", got.Status)
		}
		i.stops(t)
		if n == 0 {
			copyDir(t, tpm, before)
		}
	}
	copyDir(t, before, tpm)
	refusal{code: "not_verified", failure: "rollback"}.check(t, i.starts(t))
}

// copied starts another instance with the TPM of one.
func (l *lab) copied(t *testing.T) {
	i := l.create(t, "original", "", nil, nil)
	if got := i.starts(t); got.Status.State != compute.Running {
		t.Fatalf("%+v", got.Status)
	}
	i.stops(t)
	other := l.create(t, "copy", "", nil, nil)
	copyDir(t, filepath.Join(string(i.dir), "tpm"), filepath.Join(string(other.dir), "tpm"))
	refusal{code: "not_verified", failure: "rollback"}.check(t, other.starts(t))
	// The original was copied, and its copy has asked for the next token: whether that
	// one or this one is genuine, nobody can tell, but this one has a token that is good.
	if got := i.starts(t); got.Status.State != compute.Running {
		t.Errorf("the original: %+v", got.Status)
	}
	i.stops(t)
}

// hunt looks for the canary in every file of the platform.
func (l *lab) hunt(t *testing.T) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(l.work, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // a file that has gone has nothing
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(canary)) {
			t.Errorf("the canary is in %s", path)
		}
		searched++
		return nil
	})
	if err != nil || searched < 15 {
		t.Errorf("%d files searched, %v", searched, err)
	}
}
