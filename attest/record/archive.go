package record

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// Archive keeps records in a directory, with the evidence, the endorsements and
// the policies that they name, each once, in a file named by its digest. It is
// safe for concurrent use, also by several processes: files are written whole,
// and the same name always has the same bytes.
type Archive struct{ dir string }

// ErrArchive means that a file of the archive is missing, or is not what its
// name says.
var ErrArchive = errors.New("record archive")

// The directories of an archive.
const (
	records      = "records"
	evidence     = "evidence"
	endorsements = "endorsements"
	policies     = "policies"
)

// maxFile bounds one file of an archive in bytes.
const maxFile = 64 << 20

// OpenArchive opens the archive in a directory, and makes it if need be.
func OpenArchive(dir string) (*Archive, error) {
	for _, d := range []string{records, evidence, endorsements, policies} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	return &Archive{dir: dir}, nil
}

// inputs is how endorsements and roots are kept.
type inputs struct {
	Certificates [][]byte          `json:"certificates"`
	CRLs         [][]byte          `json:"crls"`
	Collateral   map[string][]byte `json:"collateral"`
	// Roots are DER; Embedded says that the vendors' own were used.
	Embedded bool     `json:"embedded_roots"`
	Roots    [][]byte `json:"roots"`
}

// Add keeps a record and its case, and returns the record's name: the SHA-256 of
// its canonical form.
func (a *Archive) Add(c Case, r Record) (string, error) {
	b, err := r.Bytes()
	if err != nil {
		return "", err
	}
	in := inputs{
		Certificates: c.Input.Endorsements.Certificates, CRLs: c.Input.Endorsements.CRLs, Collateral: c.Input.Endorsements.Collateral,
		Embedded: c.Input.Roots == nil,
	}
	for _, root := range c.Input.Roots {
		in.Roots = append(in.Roots, root.Raw)
	}
	c.Evidence.Kind = r.TEE // as it was judged
	if err := a.put(evidence, r.Evidence, c.Evidence); err != nil {
		return "", err
	}
	if err := a.put(endorsements, r.Endorsements, in); err != nil {
		return "", err
	}
	if c.Policy != nil {
		if err := a.put(policies, r.Policy, c.Policy); err != nil {
			return "", err
		}
	}
	name := digestOf(b)
	return name, a.write(records, name, b) // last: what a record names is there
}

func (a *Archive) put(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return a.write(dir, name, b)
}

func (a *Archive) write(dir, name string, b []byte) error {
	path := a.path(dir, name)
	if _, err := os.Stat(path); err == nil {
		return nil // the same name has the same bytes
	}
	if err := renameio.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return nil
}

func (a *Archive) path(dir, name string) string { return filepath.Join(a.dir, dir, name+".json") }

// Names lists the records, in the order of their names.
func (a *Archive) Names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(a.dir, records))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Record returns a record as it was written. Its bytes have its name as their
// digest, or it is refused.
func (a *Archive) Record(name string) (Record, []byte, error) {
	var r Record
	b, err := a.read(records, name, &r)
	if err != nil {
		return Record{}, nil, err
	}
	if digestOf(b) != name || r.Version != version {
		return Record{}, nil, fmt.Errorf("%w: record %.64q was altered, or is of another version", ErrArchive, name)
	}
	return r, b, nil
}

func (a *Archive) read(dir, name string, into any) ([]byte, error) {
	if name == "" || filepath.Base(name) != name {
		return nil, fmt.Errorf("%w: %.64q is no name", ErrArchive, name)
	}
	f, err := os.Open(a.path(dir, name))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s: more than %d bytes", ErrArchive, f.Name(), maxFile)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, f.Name(), err)
	}
	return b, nil
}

// Case returns what a record was made from. Every part is compared with the
// digest that the record names it by.
func (a *Archive) Case(r Record) (Case, error) {
	var c Case
	var in inputs
	altered := func(what, name string) (Case, error) {
		return Case{}, fmt.Errorf("%w: %s %.64q was altered", ErrArchive, what, name)
	}
	if _, err := a.read(evidence, r.Evidence, &c.Evidence); err != nil {
		return Case{}, err
	}
	if d := attest.DigestEvidence(c.Evidence); fmt.Sprintf("%x", d) != r.Evidence {
		return altered("evidence", r.Evidence)
	}
	if _, err := a.read(endorsements, r.Endorsements, &in); err != nil {
		return Case{}, err
	}
	c.Input.At = r.At
	c.Input.Endorsements = tee.Endorsements{Certificates: in.Certificates, CRLs: in.CRLs, Collateral: in.Collateral}
	if in.Embedded && len(in.Roots) > 0 {
		return altered("endorsements", r.Endorsements)
	}
	if !in.Embedded {
		c.Input.Roots = tee.Roots{}
	}
	for _, der := range in.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return altered("endorsements", r.Endorsements)
		}
		c.Input.Roots = append(c.Input.Roots, root)
	}
	if d := attest.DigestEndorsements(c.Input); fmt.Sprintf("%x", d) != r.Endorsements {
		return altered("endorsements", r.Endorsements)
	}
	if r.Policy != "" {
		c.Policy = &attest.Policy{}
		if _, err := a.read(policies, r.Policy, c.Policy); err != nil {
			return Case{}, err
		}
		if d := c.Policy.Digest(); fmt.Sprintf("%x", d) != r.Policy {
			return altered("policy", r.Policy)
		}
	}
	return c, c.readReportData(r.ReportData)
}

// Missing reports whether an error says that a file is not there.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
