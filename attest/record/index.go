package record

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// index knows where entries are in segments, as far as somebody looked, and which were
// added of late. The zero value knows none. It is safe for concurrent use.
type index struct {
	scanning sync.Mutex // who reads headers; before mu
	mu       sync.Mutex
	entries  map[entry]location
	recent   map[entry]struct{} // added here; maxRemembered at most, for those who add do so for years
	files    []string           // of location.file
	scanned  map[string]int64   // how far the entries of a segment are in the index
	good     map[string]int64   // how far a segment is known to be good
}

// location is where an entry is in the segments.
type location struct {
	file   uint32
	at     uint32 // of its header
	length uint32 // of the body
}

// end is how far a segment of that size is known to be good.
func (x *index) end(file string, size int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if end := x.good[file]; end <= size {
		return end
	}
	return 0
}

func (x *index) setEnd(file string, end int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.good == nil {
		x.good = make(map[string]int64)
	}
	x.good[file] = end
}

// add puts an entry into the index. The first of several of one name counts.
func (x *index) add(file string, e entry, at, size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries == nil {
		x.entries = make(map[entry]location)
	}
	n := slices.Index(x.files, file)
	if n < 0 {
		n = len(x.files)
		x.files = append(x.files, file)
	}
	if _, known := x.entries[e]; !known {
		x.entries[e] = location{file: uint32(n), at: uint32(at), length: uint32(size)}
	}
}

// locate returns where an entry is: in which segment, and where its body begins.
func (x *index) locate(e entry) (file string, at, size int64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, ok := x.entries[e]
	if !ok {
		return "", 0, 0, false
	}
	return x.files[l.file], int64(l.at) + int64(segmentHeader), int64(l.length), true
}

// remember notes entries that were added.
func (x *index) remember(added []entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range added {
		if x.recent == nil || len(x.recent) >= maxRemembered {
			x.recent = make(map[entry]struct{})
		}
		x.recent[e] = struct{}{}
	}
}

// knows reports whether an entry is known to be in the segments.
func (x *index) knows(e entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, found := x.entries[e]
	_, added := x.recent[e]
	return found || added
}

// has reports whether a record of that name is in the segments.
func (x *index) has(name string) bool {
	d, ok := parseName(name)
	return ok && x.knows(entry{aRecord, d})
}

// parseName reads the name of a record, evidence or request.
func parseName(name string) (digest, bool) {
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != len(digest{}) || hex.EncodeToString(raw) != name {
		return digest{}, false
	}
	return digest(raw), true
}

// names lists the records in no order.
func (x *index) names() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for e := range x.entries {
		if e.kind == aRecord {
			names = append(names, hex.EncodeToString(e.name[:]))
		}
	}
	return names
}

// refresh reads the headers of what was added since it was called last. What is in
// the index is good even beside an error: a *TornError for each segment with such
// an end, or [ErrArchive].
func (a *Archive) refresh() error {
	files, err := a.segments()
	if err != nil {
		return err
	}
	a.index.scanning.Lock()
	defer a.index.scanning.Unlock()
	var errs []error
	for _, file := range files {
		if err := a.refreshSegment(file); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *Archive) refreshSegment(file string) error {
	f, err := os.Open(filepath.Join(a.dir, records, file))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	a.index.mu.Lock()
	from := a.index.scanned[file]
	a.index.mu.Unlock()
	good, err := scan(file, f, from, st.Size(), func(e entry, at, size int64) { a.index.add(file, e, at, size) })
	a.index.mu.Lock()
	defer a.index.mu.Unlock()
	if a.index.scanned == nil {
		a.index.scanned = make(map[string]int64)
	}
	a.index.scanned[file] = good
	return err
}

// find returns the body of an entry in a segment.
func (a *Archive) find(k kind, name string) ([]byte, error) {
	missing := fmt.Errorf("%w: no %s %.64q: %w", ErrArchive, [kinds]string{"record", "evidence", "request"}[k], name, fs.ErrNotExist)
	d, ok := parseName(name)
	if !ok {
		return nil, missing
	}
	e := entry{k, d}
	file, at, size, ok := a.index.locate(e)
	if !ok {
		err := a.refresh()
		if file, at, size, ok = a.index.locate(e); !ok {
			return nil, errors.Join(missing, err)
		}
	}
	f, err := os.Open(filepath.Join(a.dir, records, file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return b, nil
}
