package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// Archive keeps records in a directory, with the evidence, the endorsements and
// the policies that they name. Records and evidence, or requests with evidence in
// them, are in segments, files that only grow; endorsements and policies, which many
// records share, are in a file each, named by its digest. Records and evidence of
// older archives, in a file each, are read as well. It is safe for concurrent use,
// also by several processes: files are written whole, segments by one at a time, and
// the same name always has the same bytes. Who only adds needs no more memory for
// more records; who reads, about 100 bytes for each record and each evidence.
type Archive struct {
	dir   string
	read  ProviderReader
	index index

	mu   sync.Mutex
	kept map[string]struct{} // files that are known to be there
}

// maxRemembered bounds how many files, and how many entries that were added, an
// archive remembers. Files beyond are looked for, entries added again: the first of
// those of one name counts.
const maxRemembered = 4096

// ErrArchive means that a file of the archive is missing, or is not what its
// name says.
var ErrArchive = errors.New("record archive")

// The directories of an archive.
const (
	records      = "records"
	evidence     = "evidence" // of older archives
	endorsements = "endorsements"
	policies     = "policies"
)

// maxFile bounds one file of an archive in bytes.
const maxFile = 64 << 20

// Option is how an archive is opened.
type Option func(*Archive)

// WithProviders has records of attestation providers read by r. Without it they can
// be added, and not be judged again.
func WithProviders(r ProviderReader) Option { return func(a *Archive) { a.read = r } }

// OpenArchive opens the archive in a directory, and makes it if need be.
func OpenArchive(dir string, options ...Option) (*Archive, error) {
	for _, d := range []string{records, endorsements, policies} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	a := &Archive{dir: dir}
	for _, o := range options {
		o(a)
	}
	return a, nil
}

// Add keeps a record and its case, and returns the record's name: the SHA-256 of
// its canonical form. It is on the disk when Add returns.
func (a *Archive) Add(c Case, r Record) (string, error) {
	var name string
	err := a.AddAll(func(yield func(Case, Record) bool) { yield(c, r) }, func(added string) { name = added })
	return name, err
}

// maxBatch is how many bytes of records and evidence are written at once.
const maxBatch = 1 << 20

// AddAll is Add for many: what is to be written is, a mebibyte at a time, which is much
// faster. added, which may be nil, is called with the name of each record once it
// is on the disk; after an error the rest may be there or not.
func (a *Archive) AddAll(cases iter.Seq2[Case, Record], added func(name string)) error {
	var w batch
	for c, r := range cases {
		p, err := Prepare(c, r)
		if err != nil {
			return err
		}
		if err := w.addCase(a, p); err != nil {
			return err
		}
		if len(w.bytes) >= maxBatch {
			if err := w.flush(a, added); err != nil {
				return err
			}
		}
	}
	return w.flush(a, added)
}

// addInputs keeps what a record names and others too. It comes first, so that it is
// there.
func (a *Archive) addInputs(c Case, r Record) error {
	in := inputs{
		Certificates: c.Input.Endorsements.Certificates, CRLs: c.Input.Endorsements.CRLs, Collateral: c.Input.Endorsements.Collateral,
		Embedded: c.Input.Roots == nil,
	}
	for _, root := range c.Input.Roots {
		in.Roots = append(in.Roots, root.Raw)
	}
	if err := a.put(endorsements, r.Endorsements, asJSON(in)); err != nil {
		return err
	}
	switch {
	case c.Provider != nil:
		return a.put(policies, r.Policy, func() ([]byte, error) { return c.Provider.Policy, nil })
	case c.Policy != nil:
		return a.put(policies, r.Policy, asJSON(c.Policy))
	}
	return nil
}

// put keeps a file that is named by its digest, unless it is there: the same name
// has the same bytes.
func (a *Archive) put(dir, name string, encode func() ([]byte, error)) error {
	path := a.path(dir, name)
	a.mu.Lock()
	_, there := a.kept[path]
	a.mu.Unlock()
	if there {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		b, err := encode()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if err := renameio.WriteFile(path, b, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil || len(a.kept) >= maxRemembered {
		a.kept = make(map[string]struct{})
	}
	a.kept[path] = struct{}{}
	return nil
}

func asJSON(v any) func() ([]byte, error) { return func() ([]byte, error) { return json.Marshal(v) } }

func (a *Archive) path(dir, name string) string { return filepath.Join(a.dir, dir, name+".json") }

// Names lists the records, in the order of their names. Beside a *TornError the
// list is good: what it speaks of was never acknowledged.
func (a *Archive) Names() ([]string, error) {
	names, err := a.files()
	if err != nil {
		return nil, err
	}
	torn := a.refresh()
	if torn != nil && !Torn(torn) {
		return nil, torn
	}
	names = append(names, a.index.names()...)
	slices.Sort(names)
	return slices.Compact(names), torn
}

// files lists the records of an older archive, which are in a file each.
func (a *Archive) files() ([]string, error) {
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
	b, err := a.bytes(name)
	if err != nil {
		return Record{}, nil, err
	}
	var r Record
	if err := decodeRecord(name, b, &r); err != nil {
		return Record{}, nil, err
	}
	if r.Version != version {
		return Record{}, nil, errAltered(name)
	}
	return r, b, nil
}

// bytes returns a record from a segment, or from a file of its own.
func (a *Archive) bytes(name string) ([]byte, error) {
	b, err := a.find(aRecord, name)
	if err == nil || !Missing(err) {
		return b, err
	}
	b, plain := a.readFile(records, name)
	if Missing(plain) {
		return nil, err
	}
	return b, plain
}

// decodeRecord reads a record's members into a structure, if the record is what its
// name says.
func decodeRecord(name string, b []byte, into any) error {
	if digestOf(b) != name {
		return errAltered(name)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: record %.64q: %w", ErrArchive, name, err)
	}
	return nil
}

func errAltered(name string) error {
	return fmt.Errorf("%w: record %.64q was altered, or is of another version", ErrArchive, name)
}

// readJSON reads what a record names.
func (a *Archive) readJSON(dir, name string, into any) error {
	b, err := a.readFile(dir, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrArchive, a.path(dir, name), err)
	}
	return nil
}

func (a *Archive) readFile(dir, name string) ([]byte, error) {
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
	return b, nil
}

// Missing reports whether an error says that a file is not there.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Torn reports whether an error says nothing else than that a crash cut off the end
// of a segment, or of several: see [TornError].
func Torn(err error) bool {
	if many, ok := err.(interface{ Unwrap() []error }); ok { // what Join joined, one by one
		return !slices.ContainsFunc(many.Unwrap(), func(e error) bool { return !Torn(e) })
	}
	_, ok := errors.AsType[*TornError](err)
	return ok
}
