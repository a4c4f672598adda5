package collateral

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/attest"
)

// Store keeps items in a directory, one file for each, named by its digest and
// written whole or not at all. Nothing is ever taken out: an old verdict is
// reproduced with what was current then. It is safe for concurrent use by one
// process; another process sees what was added when it opens the store again.
type Store struct {
	dir string

	mu    sync.RWMutex
	items map[string]Item // by file name
}

// ErrStore means that the directory holds what no store wrote, or that was
// altered. Move the file that the error names away; it can be fetched again.
var ErrStore = errors.New("collateral store")

// OpenStore opens the store in a directory, and makes it if need be.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	s := &Store{dir: dir, items: map[string]Item{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if len(names) > MaxItems {
		return nil, fmt.Errorf("%w: %s holds %d items, at most %d", ErrStore, dir, len(names), MaxItems)
	}
	for _, name := range names {
		i, err := readItem(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrStore, name, err)
		}
		s.items[filepath.Base(name)] = i
	}
	return s, nil
}

func readItem(name string) (Item, error) {
	f, err := os.Open(name)
	if err != nil {
		return Item{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*MaxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Item{}, err
	}
	var i Item
	if err := attest.DecodeStrict(b, &i); err != nil {
		return Item{}, err
	}
	if err := i.check(); err != nil {
		return Item{}, err
	}
	if filepath.Base(name) != i.fileName() {
		return Item{}, fmt.Errorf("its name is not %s", i.fileName())
	}
	return i, nil
}

// fileName is the kind and the digest: one document may stand for two things, as
// a list of one root for two products.
func (i Item) fileName() string {
	sum := sha256.Sum256([]byte(i.key()))
	return fmt.Sprintf("%s-%s-%x.json", i.Kind, i.Digest, sum[:8])
}

// Add keeps items; one that is there already stays as it is. On an error those
// before it are kept.
func (s *Store) Add(items ...Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if err := i.check(); err != nil {
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		name := i.fileName()
		if _, known := s.items[name]; known {
			continue
		}
		if len(s.items) >= MaxItems {
			return fmt.Errorf("%w: %d items, at most %d", ErrStore, len(s.items)+1, MaxItems)
		}
		b, err := json.Marshal(i)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		if err := renameio.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		s.items[name] = i
	}
	return nil
}

// Items returns, of the versions of each thing, the newest.
func (s *Store) Items() []Item { return newest(s.History()) }

// History returns everything that was ever added, in no order.
func (s *Store) History() []Item {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Item, 0, len(s.items))
	for _, i := range s.items {
		out = append(out, i)
	}
	return out
}

// find returns the newest item of a kind by its name, letter case aside, as
// vendors' services do.
func (s *Store) find(kind Kind, name string) (Item, error) {
	for _, i := range s.Items() {
		if i.Kind == kind && strings.EqualFold(i.Name, name) {
			return i, nil
		}
	}
	return Item{}, fs.ErrNotExist
}
