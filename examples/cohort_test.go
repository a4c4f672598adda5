//go:build linux

package examples_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloister-cc/cloister/enclave"
)

// result is what examples/cohort gives each hospital.
type result struct {
	Patients  int `json:"patients"`
	Malignant int `json:"malignant"`
	Columns   []struct {
		Name        string  `json:"name"`
		Correlation float64 `json:"correlation"`
	} `json:"columns"`
	Joint score `json:"joint"`
	Alone score `json:"alone"`
	Model struct {
		Intercept float64 `json:"intercept"`
		Columns   []struct {
			Name   string  `json:"name"`
			Weight float64 `json:"weight"`
			Mean   float64 `json:"mean"`
			Scale  float64 `json:"scale"`
		} `json:"columns"`
	} `json:"model"`
}

type score struct {
	Columns int     `json:"columns"`
	Tested  int     `json:"tested"`
	Correct int     `json:"correct"`
	AUC     float64 `json:"auc"`
}

// tables are two hospitals' records of n patients that both know and a few more.
// The size of a tumour decides mostly, its texture a little; the column constant
// says nothing.
func tables(n int) (a, b string) {
	ta, tb := "patient,size,constant,noise\nonly-a,1,7,1", "patient,texture,malignant,age\nonly-b,1,1,1"
	for i := range n {
		x := float64(i)
		size, texture := 10+4*math.Sin(x*1.7), 20+3*math.Sin(x*2.3+1)
		malignant := 0
		if size-10+(texture-20)/2+2*math.Sin(x*5.1) > 0 {
			malignant = 1
		}
		ta += fmt.Sprintf("\np%03d,%.4f,7,%.3e", i, size, math.Sin(x*3.1)*1e-5)
		tb = fmt.Sprintf("patient,texture,malignant,age\np%03d,%.4f,%d,%d", i, texture, malignant, 40+i%30) +
			strings.TrimPrefix(tb, "patient,texture,malignant,age") // in the other order
	}
	return ta + "\n", tb + "\n"
}

// owner is a hospital.
type owner struct {
	letter, dir string
	key         []byte
}

func newOwner(t *testing.T, letter string) *owner {
	t.Helper()
	o := &owner{letter, t.TempDir(), make([]byte, 32)}
	if _, err := rand.Read(o.key); err != nil {
		t.Fatal(err)
	}
	return o
}

// encrypt writes what the host gets of a table and returns its path.
func (o *owner) encrypt(t *testing.T, name, table string) string {
	t.Helper()
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		t.Fatal(err)
	}
	sealed, err := enclave.EncryptAESGCM(o.key, nonce, []byte(table), []byte("cohort input v1 "+o.letter))
	if err != nil {
		t.Fatal(err)
	}
	return o.write(t, name, append(nonce, sealed...))
}

func (o *owner) write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// entrust imports a key under name, to be released to one measurement only.
func (o *owner) entrust(t *testing.T, p *platform, name string, key []byte, measurement string) {
	t.Helper()
	p.must(t, "key", "import", name, "--identity", filepath.Join(o.dir, "identity.pem"),
		"--file", o.write(t, "key", key), "--measurement", measurement, "--allow-simulated")
}

// decrypt opens a result.
func (o *owner) decrypt(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := enclave.DecryptAESGCM(o.key, b[:12], b[12:], []byte("cohort result v1"))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// flags are those that a launch of cohort is measured by.
func flags(image, keyA, keyB string) []string {
	return []string{image, "--in", "a=/dev/null", "--in", "b=/dev/null", "--secret", "key-a=" + keyA, "--secret", "key-b=" + keyB, "--out", "result-a=a", "--out", "result-b=b"}
}

// study is one form of cohort, with the keys of both hospitals released to it.
type study struct {
	*platform
	a, b       *owner
	image      string
	keyA, keyB string
}

func newStudy(t *testing.T, p *platform, form string) *study {
	t.Helper()
	s := &study{p, newOwner(t, "a"), newOwner(t, "b"), program(t, "cohort", form), "hospital-a/" + form, "hospital-b/" + form}
	m := p.measurement(t, flags(s.image, s.keyA, s.keyB)...)
	s.a.entrust(t, p, s.keyA, s.a.key, m)
	s.b.entrust(t, p, s.keyB, s.b.key, m)
	return s
}

// run runs it on two files.
func (s *study) run(t *testing.T, image, keyB, inA, inB string) (resultA, resultB, stderr string, status int) {
	t.Helper()
	resultA, resultB = filepath.Join(s.a.dir, "result"), filepath.Join(s.b.dir, "result")
	stdout, stderr, status := s.cli(t, "run", image, "--in", "a="+inA, "--in", "b="+inB,
		"--secret", "key-a="+s.keyA, "--secret", "key-b="+keyB, "--out", "result-a="+resultA, "--out", "result-b="+resultB)
	if stdout != "" {
		t.Errorf("it prints %q: everything that it prints, the host reads", stdout)
	}
	return resultA, resultB, stderr, status
}

func (s *study) refused(t *testing.T, status int, reason, image, keyB, inA, inB string) {
	t.Helper()
	_, _, stderr, got := s.run(t, image, keyB, inA, inB)
	if got != status || !strings.Contains(stderr, reason) {
		t.Errorf("status %d, says %q, want status %d and %q", got, stderr, status, reason)
	}
}

func TestCohort(t *testing.T) {
	p := up(t)
	tableA, tableB := tables(80)
	var first *result
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			s := newStudy(t, p, form)
			resultA, resultB, stderr, status := s.run(t, s.image, s.keyB, s.a.encrypt(t, "in", tableA), s.b.encrypt(t, "in", tableB))
			if status != 0 {
				t.Fatalf("status %d: %s", status, stderr)
			}
			of, same := s.a.decrypt(t, resultA), s.b.decrypt(t, resultB)
			if !bytes.Equal(of, same) {
				t.Error("the hospitals get different results")
			}
			var got result
			d := json.NewDecoder(bytes.NewReader(of))
			d.DisallowUnknownFields()
			if err := d.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.Patients != 80 || got.Joint.Columns != 5 || got.Alone.Columns != 2 || got.Joint.Tested != 16 || got.Joint.AUC <= got.Alone.AUC {
				t.Errorf("result %+v: want 80 patients, 5 columns together, 2 alone, 16 tested, and more together than alone", got)
			}
			if got.Columns[0].Name != "size" || got.Columns[2].Name != "constant" || got.Columns[2].Correlation != 0 {
				t.Errorf("correlations %+v: want size first and constant last, with 0", got.Columns)
			}
			if first == nil {
				first = &got
			}
			if diff := cmp.Diff(*first, got, cmpopts.EquateApprox(1e-5, 0)); diff != "" {
				t.Errorf("not what %s computes, to 6 digits: %s", forms[0], diff)
			}
		})
	}
}

func TestCohortRefuses(t *testing.T) {
	p := up(t)
	tableA, tableB := tables(80)
	fewA, fewB := tables(49)
	for _, form := range []string{"go-native", "c-wasm"} {
		t.Run(form, func(t *testing.T) {
			s := newStudy(t, p, form)
			inA, inB := s.a.encrypt(t, "in", tableA), s.b.encrypt(t, "in", tableB)
			sealed, err := os.ReadFile(inA)
			if err != nil {
				t.Fatal(err)
			}
			sealed[len(sealed)/2] ^= 1
			s.refused(t, 1, "input a: ", s.image, s.keyB, s.a.write(t, "altered", sealed), inB)
			s.refused(t, 1, "the bytes were altered", s.image, s.keyB, inA, inA)
			s.refused(t, 1, "too short", s.image, s.keyB, s.a.write(t, "short", sealed[:11]), inB)
			s.refused(t, 1, "fewer than 50 patients", s.image, s.keyB, s.a.encrypt(t, "few", fewA), s.b.encrypt(t, "few", fewB))
			s.refused(t, 1, "row 1: column size is not a number", s.image, s.keyB, s.a.encrypt(t, "text", "patient,size\nx,many"), inB)
			s.refused(t, 1, `hospital b: there is no column "malignant"`, s.image, s.keyB, inA, s.b.encrypt(t, "none", "patient,size\nx,1"))

			wrong := s.keyB + "-wrong"
			s.b.entrust(t, p, wrong, make([]byte, 32), p.measurement(t, flags(s.image, s.keyA, wrong)...))
			// Another secret is another measurement, so hospital A's key stays away.
			s.refused(t, 3, "refused: measurement", s.image, wrong, inA, inB)
			// So does any key from any other program.
			s.refused(t, 3, "refused: measurement", program(t, "hello", form), s.keyB, inA, inB)
		})
	}
}

// TestCohortWithAWrongKey: both hospitals agreed on the program, but one brought
// another key than it encrypted with.
func TestCohortWithAWrongKey(t *testing.T) {
	p := up(t)
	tableA, tableB := tables(80)
	s := newStudy(t, p, "go-native")
	inA, inB := s.a.encrypt(t, "in", tableA), s.b.encrypt(t, "in", tableB)
	p.must(t, "key", "rotate", s.keyB, "--identity", filepath.Join(s.b.dir, "identity.pem"))
	s.refused(t, 1, "input b: ", s.image, s.keyB, inA, inB)
}
