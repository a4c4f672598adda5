package launch_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func example() launch.Document {
	d := launch.New(launch.Wasm, []byte("module"))
	d.Args = []string{"cohort", "-v"}
	d.Env = map[string]string{"TZ": "UTC"}
	d.Inputs = []string{"a.csv", "b.csv"}
	d.Secrets = []launch.Secret{{Name: "data-key", Key: "hospital-a/records"}}
	d.Ports = []uint16{8443}
	return d
}

func TestEveryFieldChangesTheDigest(t *testing.T) {
	base, err := example().Digest()
	if err != nil {
		t.Fatal(err)
	}
	signer := bytes.Repeat([]byte{1}, 32)
	changes := map[string]func(*launch.Document){
		"image":      func(d *launch.Document) { d.Image.Digest = bytes.Repeat([]byte{7}, 32) },
		"image kind": func(d *launch.Document) { d.Image.Kind = launch.ELF },
		"args":       func(d *launch.Document) { d.Args = []string{"cohort"} },
		"args join":  func(d *launch.Document) { d.Args = []string{"cohort-v"} },
		"env":        func(d *launch.Document) { d.Env["TZ"] = "CET" },
		"operator":   func(d *launch.Document) { d.OperatorEnv = []string{"LANG"} },
		"inputs":     func(d *launch.Document) { d.Inputs = []string{"b.csv", "a.csv"} },
		"outputs":    func(d *launch.Document) { d.Outputs = []string{"result"} },
		"secret key": func(d *launch.Document) { d.Secrets[0].Key = "hospital-b/records" },
		"ports":      func(d *launch.Document) { d.Ports = []uint16{8444} },
		"memory":     func(d *launch.Document) { d.MemoryMiB++ },
		"time limit": func(d *launch.Document) { d.TimeLimit = 1 },
		"logs":       func(d *launch.Document) { d.Logs = launch.LogsNone },
		"debug":      func(d *launch.Document) { d.Debug = true },
		"signer":     func(d *launch.Document) { d.Signer = signer },
		"product":    func(d *launch.Document) { d.Signer, d.Product = signer, 1 },
		"svn":        func(d *launch.Document) { d.Signer, d.SVN = signer, 1 },
	}
	seen := map[[32]byte]string{base: "unchanged"}
	for name, change := range changes {
		d := example()
		change(&d)
		got, err := d.Digest()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if other, dup := seen[got]; dup {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[got] = name
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var m map[uint64]any
	if err := cbor.Unmarshal(good, &m); err != nil {
		t.Fatal(err)
	}
	m[99] = "unknown"
	unknown := must(cbor.CoreDetEncOptions().EncMode()).mustMarshal(t, m)
	delete(m, 99)
	m[13] = "loud"
	badLogs := must(cbor.CoreDetEncOptions().EncMode()).mustMarshal(t, m)

	// Field 14 (debug) twice: true, then false.
	dup := append([]byte{good[0] + 2}, good[1:]...)
	dup = append(dup, 14, 0xf5, 14, 0xf5)
	cases := []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "EOF"},
		{"truncated", good[:len(good)-1], "EOF"},
		{"trailing", append(bytes.Clone(good), 0), "extraneous"},
		{"unknown field", unknown, "unknown field"},
		{"duplicate field", dup, "duplicate"},
		{"bad enum", badLogs, `logs "loud": want none, stderr or all`},
		{"explicit default is not canonical", explicitFalse(good), "deterministic"},
		{"too long", make([]byte, launch.MaxDocument+1), "at most"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := launch.Parse(c.in)
			if !errors.Is(err, launch.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrInvalid with %q", err, c.want)
			}
		})
	}
}

// explicitFalse adds "debug: false", which the canonical form leaves out.
func explicitFalse(good []byte) []byte {
	return append(append([]byte{good[0] + 1}, good[1:]...), 14, 0xf4)
}

type encMode struct{ cbor.EncMode }

func must(m cbor.EncMode, err error) encMode {
	if err != nil {
		panic(err)
	}
	return encMode{m}
}

func (m encMode) mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := m.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValidateNamesEveryProblem(t *testing.T) {
	d := example()
	d.Inputs = []string{"../etc/passwd", "a", "a"}
	d.Ports = []uint16{0}
	d.MemoryMiB = 0
	err := d.Validate()
	for _, want := range []string{"../etc/passwd", `"a" twice`, "ports", "memory_mib"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if (launch.Document{}).Validate() == nil {
		t.Error("the zero document is valid")
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, want := range map[string]bool{
		"a": true, "hospital-a/records": true, "a/b/c/d": true, "0.x_y-z": true, long: true, long + "/" + long: true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, "a/b/c/d/e": false, "A": false, "-a": false, ".a": false, "a b": false,
		"ä": false, "a\x00": false, "../a": false, long + "a": false,
	} {
		if got := launch.ValidKeyName(name); got != want {
			t.Errorf("key name %q: %t, want %t", name, got, want)
		}
	}
	for name, want := range map[string]bool{"A": true, "_x1": true, "PATH": true, "": false, "1A": false, "A-B": false, "A=B": false, strings.Repeat("A", 129): false} {
		d := launch.New(launch.Wasm, []byte("module"))
		d.Env = map[string]string{name: "x"}
		if got := d.Validate() == nil; got != want {
			t.Errorf("environment name %q: %t, want %t", name, got, want)
		}
	}
}

func TestSignature(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := example()
	sig, err := launch.SignImage(key, d.Image.Digest, 7, 3)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := d.Signed(sig)
	if err != nil {
		t.Fatal(err)
	}
	if signed.Product != 7 || signed.SVN != 3 {
		t.Errorf("product %d svn %d, want 7 and 3", signed.Product, signed.SVN)
	}
	other := signed
	other.SVN = 4
	otherImage := signed
	otherImage.Image.Digest = bytes.Repeat([]byte{9}, 32)
	flipped := bytes.Clone(sig)
	flipped[len(flipped)-1] ^= 1
	for name, err := range map[string]error{
		"other svn":             other.CheckSignature(sig),
		"other image":           otherImage.CheckSignature(sig),
		"bit flipped":           signed.CheckSignature(flipped),
		"missing":               signed.CheckSignature(nil),
		"signature but no name": d.CheckSignature(sig),
	} {
		if !errors.Is(err, launch.ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", name, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		d := launch.New(launch.ELF, rapid.SliceOf(rapid.Byte()).Draw(t, "image"))
		d.Args = rapid.SliceOfN(rapid.StringMatching(`[ -~]{0,30}`), 1, 5).Draw(t, "args")
		d.Inputs = rapid.SliceOfNDistinct(name, 1, 5, rapid.ID[string]).Draw(t, "inputs")
		d.Debug = rapid.Bool().Draw(t, "debug")
		b, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := launch.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	good, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := launch.Parse(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted bytes are not canonical: %v", err)
		}
	})
}

func Example() {
	d := launch.New(launch.Wasm, []byte("(the module's bytes)"))
	d.Secrets = []launch.Secret{{Name: "data-key", Key: "hospital-a/records"}}
	before, _ := d.Digest()
	d.Debug = true
	after, _ := d.Digest()
	fmt.Println(before == after)
	// Output: false
}
