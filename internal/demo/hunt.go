package demo

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/cloister-cc/cloister/internal/tap"
)

// hunt searches the host's side for secrets, in every form in which this
// program writes bytes: raw, hex and base64. One pass looks for the real secrets
// and for the planted control alike.
type hunt struct {
	patterns []pattern
	longest  int
	places   map[string]*Place
	canary   Canary
}

// pattern is one form of one secret.
type pattern struct {
	secret  string // its name, for the report
	control bool
	bytes   []byte
}

func newHunt() *hunt {
	return &hunt{places: map[string]*Place{}, canary: Canary{Searched: []Place{}, Found: []string{}, Unsearched: []string{}}}
}

// add looks for a secret, which must be long enough not to occur by chance.
func (h *hunt) add(name string, secret []byte, control bool) {
	for _, form := range forms(secret) {
		h.patterns = append(h.patterns, pattern{name, control, form})
		h.longest = max(h.longest, len(form))
	}
}

// forms are the ways in which bytes appear in files, JSON, logs and memory. In
// base64 the same bytes look different at each of three offsets.
func forms(b []byte) [][]byte {
	out := [][]byte{b, []byte(hex.EncodeToString(b)), []byte(strings.ToUpper(hex.EncodeToString(b)))}
	for shift := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(append(make([]byte, shift), b...))
			// Characters at both ends mix with the neighbours' bits.
			inner := []byte(text[(shift*8+5)/6 : len(text)-1])
			if !slices.ContainsFunc(out, func(o []byte) bool { return bytes.Equal(o, inner) }) {
				out = append(out, inner)
			}
		}
	}
	return out
}

func (h *hunt) place(kind string) *Place {
	if h.places[kind] == nil {
		h.places[kind] = &Place{Kind: kind}
	}
	return h.places[kind]
}

// search looks through one item of a kind of place.
func (h *hunt) search(kind, item string, r io.Reader) {
	p := h.place(kind)
	p.Items++
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		p.Bytes += int64(n)
		window := buf[:kept+n]
		h.match(p, item, window)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if err != nil {
			h.canary.Unsearched = append(h.canary.Unsearched, fmt.Sprintf("%s %s: %v", kind, item, err))
			return
		}
		// A secret may lie across two windows.
		kept = copy(buf, window[len(window)-min(len(window), h.longest-1):])
	}
}

func (h *hunt) match(p *Place, item string, window []byte) {
	for _, pat := range h.patterns {
		if !bytes.Contains(window, pat.bytes) {
			continue
		}
		if pat.control {
			p.Control = true
			continue
		}
		if found := fmt.Sprintf("%s in %s %s", pat.secret, p.Kind, item); !slices.Contains(h.canary.Found, found) {
			h.canary.Found = append(h.canary.Found, found)
		}
	}
}

// files searches all regular files below dir. A recording with gaps counts as
// not searched.
func (h *hunt) files(kind, dir string, logs func(name string) bool) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file of a living process
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		kind := kind
		if logs(d.Name()) {
			kind = "logs"
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if strings.HasSuffix(path, tap.Incomplete) {
			h.canary.Unsearched = append(h.canary.Unsearched, "the recording "+d.Name())
		}
		name, _ := filepath.Rel(dir, path)
		h.search(kind, name, f)
		return nil
	})
	if err != nil {
		h.canary.Unsearched = append(h.canary.Unsearched, fmt.Sprintf("%s: %v", kind, err))
	}
}

// process searches what the host can see of one of its own processes.
func (h *hunt) process(pid int, name string) {
	item := fmt.Sprintf("of %s (process %d)", name, pid)
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			h.lost(file, item, err)
			continue
		}
		h.search(map[string]string{"cmdline": "argv", "environ": "environ"}[file], item, bytes.NewReader(b))
	}
	if err := h.memory(pid, item); err != nil {
		h.lost("memory", item, err)
	}
}

// lost notes what could not be searched, unless the process has ended.
func (h *hunt) lost(what, item string, err error) {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		h.canary.Unsearched = append(h.canary.Unsearched, fmt.Sprintf("%s %s: %v", what, item, err))
	}
}

// memory searches every readable mapping of a process.
func (h *hunt) memory(pid int, item string) error {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	h.place("memory").Items++
	searched := false
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %4s", &from, &to, &mode); n != 3 || mode[0] != 'r' || strings.HasSuffix(lines.Text(), "[vvar]") || strings.HasSuffix(lines.Text(), "[vsyscall]") || strings.HasSuffix(lines.Text(), "[vvar_vclock]") {
			continue
		}
		searched = h.mapping(mem, from, to, item) || searched
	}
	if !searched {
		return errors.New("not a byte of it can be read")
	}
	return nil
}

// mapping searches one mapping; what was unmapped meanwhile is passed over.
func (h *hunt) mapping(mem *os.File, from, to uint64, item string) bool {
	p := h.place("memory")
	buf := make([]byte, 1<<20)
	read := false
	for at := from; at < to; {
		n, err := mem.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at)) // user addresses are below 2^63
		if n == 0 || err != nil && n == 0 {
			return read
		}
		read = true
		p.Bytes += int64(n)
		h.match(p, item, buf[:n])
		if uint64(n) == to-at || n < h.longest {
			return read
		}
		at += uint64(n - h.longest + 1)
	}
	return read
}

// finish returns the outcome.
func (h *hunt) finish() Canary {
	c := h.canary
	c.ControlFound = len(h.places) > 0
	for _, p := range h.places {
		c.Searched = append(c.Searched, *p)
		c.ControlFound = c.ControlFound && p.Control
	}
	sort.Slice(c.Searched, func(i, j int) bool { return c.Searched[i].Kind < c.Searched[j].Kind })
	c.Hits = len(c.Found)
	return c
}
