package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/attest"
)

// segmentSuffix ends the names of segments, which count up.
const segmentSuffix = ".segment"

// segments lists the segments in their order.
func (a *Archive) segments() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(a.dir, records))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// appendEntries adds entries, which are whole, to the newest segment, and to a new
// one where that is full or has a bad end. They are on the disk when it returns.
// Several processes take turns: the file's lock is held from the look at its end
// until the entries are there.
func (a *Archive) appendEntries(entries []byte) error {
	names, err := a.segments()
	if err != nil {
		return err
	}
	newest := ""
	if len(names) > 0 {
		newest = names[len(names)-1]
	}
	for {
		if newest != "" {
			if ok, err := a.appendTo(newest, entries); ok || err != nil {
				return err
			}
		}
		if newest, err = a.newSegment(newest); err != nil {
			return err
		}
	}
}

// newSegment makes the segment after another, unless another process just did.
func (a *Archive) newSegment(after string) (string, error) {
	number := 0
	if after != "" {
		if _, err := fmt.Sscanf(after, "%08d"+segmentSuffix, &number); err != nil {
			return "", fmt.Errorf("%w: %.64q is no name of a segment", ErrArchive, after)
		}
	}
	name := fmt.Sprintf("%08d"+segmentSuffix, number+1)
	f, err := os.OpenFile(filepath.Join(a.dir, records, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return name, nil
	}
	if err == nil {
		err = errors.Join(f.Close(), syncDir(filepath.Join(a.dir, records)))
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return name, nil
}

// syncDir makes a new name last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// appendTo adds entries to one segment. ok is false where nothing more belongs in
// it.
func (a *Archive) appendTo(name string, entries []byte) (ok bool, err error) {
	f, err := os.OpenFile(filepath.Join(a.dir, records, name), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	ok, err = a.appendLocked(f, name, entries)
	if closed := f.Close(); err == nil && closed != nil { // and with the file goes the lock
		err = fmt.Errorf("%w: %w", ErrArchive, closed)
	}
	return ok, err
}

func (a *Archive) appendLocked(f *os.File, name string, entries []byte) (bool, error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("%w: %w", ErrArchive, err) }
	if err := lock(f); err != nil {
		return fail(err)
	}
	st, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	size := st.Size()
	if size >= fullSegment {
		return false, nil
	}
	// What was good when we looked last is good: nobody changes it.
	good, err := scan(name, f, a.index.end(name, size), size, func(entry, int64, int64) {})
	if err != nil || good != size {
		return false, nil //nolint:nilerr // who reads it says so; we begin another
	}
	if _, err := f.Write(entries); err != nil {
		// Half an entry at the end would be dropped by everybody, but is better gone.
		return fail(errors.Join(err, f.Truncate(size)))
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	a.index.setEnd(name, size+int64(len(entries)))
	return true, nil
}

// lock waits for a file's lock, which other processes and other files of this one
// respect.
func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// batch is entries on their way into a segment.
type batch struct {
	bytes   []byte
	entries []entry
	pending map[entry]struct{} // of entries
	names   []string           // of the records, those included that are there already
}

// add puts an entry into the batch, unless it is there, or in the archive as far as
// that is known.
func (w *batch) add(a *Archive, k kind, body []byte) (entry, error) {
	b, e, err := appendEntry(w.bytes, k, body)
	if err != nil || w.has(a, e) {
		return e, err
	}
	w.bytes = b
	w.entries = append(w.entries, e)
	if w.pending == nil {
		w.pending = make(map[entry]struct{})
	}
	w.pending[e] = struct{}{}
	return e, nil
}

func (w *batch) has(a *Archive, e entry) bool {
	_, pending := w.pending[e]
	return pending || a.index.knows(e)
}

// addCase puts a record and its case into the batch, and what many share into files.
func (w *batch) addCase(a *Archive, p Prepared) error {
	if err := a.addInputs(p.c, p.r); err != nil {
		return err
	}
	if err := w.addGiven(a, p.c, p.r); err != nil {
		return err
	}
	_, err := w.add(a, aRecord, p.body)
	w.names = append(w.names, p.name)
	return err
}

// addGiven puts into the batch what was judged: evidence, or the request of a
// provider that it came in.
func (w *batch) addGiven(a *Archive, c Case, r Record) error {
	if c.Provider != nil {
		return w.addNamed(a, aRequest, r.Request, func() []byte { return c.Provider.Request })
	}
	c.Evidence.Kind = r.TEE // as it was judged
	return w.addNamed(a, anEvidence, r.Evidence, func() []byte { return attest.EncodeEvidence(c.Evidence) })
}

// addNamed puts an entry of that name into the batch.
func (w *batch) addNamed(a *Archive, k kind, name string, encode func() []byte) error {
	d, ok := parseName(name)
	if ok && w.has(a, entry{k, d}) {
		return nil
	}
	e, err := w.add(a, k, encode())
	if err == nil && (!ok || e.name != d) {
		err = fmt.Errorf("%w: the record names another case than its own", ErrArchive)
	}
	return err
}

// flush writes the batch, and empties it.
func (w *batch) flush(a *Archive, added func(name string)) error {
	if len(w.bytes) > 0 {
		if err := a.appendEntries(w.bytes); err != nil {
			return err
		}
		a.index.remember(w.entries)
	}
	for _, name := range w.names {
		if added != nil {
			added(name)
		}
	}
	clear(w.pending)
	w.bytes, w.entries, w.names = w.bytes[:0], w.entries[:0], w.names[:0]
	return nil
}
