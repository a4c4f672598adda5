package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
)

//go:embed assets/breast_cancer.csv
var patients []byte

//go:embed assets/cohort.wasm.gz
var cohortModule []byte

// maxModule bounds the unpacked module in bytes; ours is far smaller.
const maxModule = 64 << 20

// unpack returns the program that both hospitals have read and agreed on.
func unpack() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(cohortModule))
	if err != nil {
		return nil, fmt.Errorf("unpack program: %w", err)
	}
	return io.ReadAll(io.LimitReader(z, maxModule))
}

// What examples/cohort expects; it says so in its own package comment.
const (
	inputPurpose  = "cohort input v1 "
	resultPurpose = "cohort result v1"
	nonceSize     = 12
)

// measurements are the columns of the data set, in its order.
func measurements() []string {
	var names []string
	for _, kind := range []string{"mean", "error", "worst"} {
		for _, what := range []string{"radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points", "symmetry", "fractal_dimension"} {
			names = append(names, kind+"_"+what)
		}
	}
	return names
}

// hospital is a data owner: this process acts for it. What it knows is nobody
// else's business.
type hospital struct {
	letter   string // "a" or "b"
	table    []byte // CSV
	sealed   []byte // the table, encrypted: all that the host gets
	key      []byte
	marker   string // a patient that only this hospital has, made up for the hunt
	identity *tls.Certificate
	file     string // of the identity
	node     *client.Node
}

// newHospitals splits the data set by columns: A has half of the measurements, B
// the other half and the diagnoses. So A can learn nothing of diagnoses alone,
// and B has only half of what there is to learn from.
func newHospitals(dir string) (a, b *hospital, err error) {
	r := csv.NewReader(bytes.NewReader(patients))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, nil, fmt.Errorf("read data set: %w", err)
	}
	names := measurements()
	ofB := func(column int) bool { return column >= 5 && column < 20 }
	var tableA, tableB strings.Builder
	tableA.WriteString("patient")
	tableB.WriteString("patient,malignant")
	for c, name := range names {
		pick(ofB(c), &tableA, &tableB).WriteString("," + name)
	}
	for i, row := range rows[1:] {
		if len(row) != len(names)+1 {
			return nil, nil, fmt.Errorf("data set row %d: %d fields", i+1, len(row))
		}
		malignant := "1"
		if row[len(names)] == "1" { // the data set calls benign 1
			malignant = "0"
		}
		fmt.Fprintf(&tableA, "\np%04d", i)
		fmt.Fprintf(&tableB, "\np%04d,%s", i, malignant)
		for c := range names {
			pick(ofB(c), &tableA, &tableB).WriteString("," + row[c])
		}
	}
	if a, err = newHospital("a", dir, tableA.String(), 15); err != nil {
		return nil, nil, err
	}
	b, err = newHospital("b", dir, tableB.String(), 16)
	return a, b, err
}

func pick(second bool, a, b *strings.Builder) *strings.Builder {
	if second {
		return b
	}
	return a
}

// newHospital adds a made-up patient with a name that occurs nowhere else: if
// the host can find it, it can find any patient.
func newHospital(letter, dir, table string, columns int) (*hospital, error) {
	h := &hospital{letter: letter, key: make([]byte, 32), file: filepath.Join(dir, "hospital-"+letter+".pem")}
	secret := make([]byte, 18)
	if _, err := rand.Read(h.key); err != nil {
		return nil, err
	}
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	h.marker = "canary" + base64.RawURLEncoding.EncodeToString(secret)
	h.table = []byte(table + "\n" + h.marker + strings.Repeat(",0", columns) + "\n")
	var err error
	h.identity, err = client.LoadIdentity(h.file)
	return h, err
}

// records is what the hospital gives to the host: its table, encrypted.
func (h *hospital) records() ([]byte, error) {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	sealed, err := enclave.EncryptAESGCM(h.key, nonce, h.table, []byte(inputPurpose+h.letter))
	return append(nonce, sealed...), err
}

// open decrypts the hospital's copy of the result.
func (h *hospital) open(sealed []byte) (Result, []byte, error) {
	if len(sealed) < nonceSize {
		return Result{}, nil, errors.New("the result is too short")
	}
	plain, err := enclave.DecryptAESGCM(h.key, sealed[:nonceSize], sealed[nonceSize:], []byte(resultPurpose))
	if err != nil {
		return Result{}, nil, fmt.Errorf("open result: %w", err)
	}
	var r Result
	return r, plain, json.Unmarshal(plain, &r)
}

// keyName is the hospital's name for its data key at the node.
func (h *hospital) keyName() string { return "hospital-" + h.letter + "/records" }

// connect prepares the hospital's own channel to the node: it believes the given
// root, and accepts only the node that policy names.
func (h *hospital) connect(address string, roots tee.Roots, policy attest.Policy) (err error) {
	h.node, err = client.NewNode(client.NodeConfig{Address: address, Identity: h.identity, Roots: roots, Policy: policy})
	return err
}

// entrust imports the data key, to be released to exactly one program.
func (h *hospital) entrust(ctx context.Context, name string, appraisal attest.Policy) error {
	policy, err := json.Marshal(keys.Policy{Appraisal: appraisal})
	if err != nil {
		return err
	}
	_, err = h.node.PutKey(ctx, client.PutKey{Name: name, Material: bytes.Clone(h.key), Policy: policy})
	return err
}

// onlyThis accepts one measurement on the simulated TEE of this machine.
func onlyThis(m tee.Measurement) attest.Policy {
	p := attest.Development()
	p.Name, p.Accept, p.Measurements = "exactly this program", []tee.Kind{tee.Software}, []string{m.String()}
	return p
}
