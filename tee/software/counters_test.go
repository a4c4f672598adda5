//go:build linux

package software

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/tee"
)

func digestOf(n uint64) [32]byte { return [32]byte{byte(n), byte(n >> 8), 1} }

// advanceTo advances a counter until it stands at to.
func advanceTo(t testing.TB, c tee.Counters, name string, to uint64) {
	t.Helper()
	from, _, err := c.ReadCounter(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for ; from < to; from++ {
		if err := c.AdvanceCounter(t.Context(), name, from, digestOf(from+1)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantCounter(t testing.TB, c tee.Counters, name string, want uint64) {
	t.Helper()
	got, digest, err := c.ReadCounter(t.Context(), name)
	if err != nil || got != want || (want > 0 && digest != digestOf(want)) || (want == 0 && digest != [32]byte{}) {
		t.Errorf("counter %s: %d %x %v, want %d", name, got, digest, err, want)
	}
}

func TestCounters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	p := open(t, dir)
	in := start(t, p, testDocument(), nil)
	wantCounter(t, in, "c", 0)
	advanceTo(t, in, "c", 3)
	for _, from := range []uint64{0, 2, 4, math.MaxUint64} {
		wantCode(t, in.AdvanceCounter(t.Context(), "c", from, digestOf(9)), tee.CodeCounter)
	}
	wantCounter(t, in, "c", 3)
	wantCounter(t, in, "d", 0)
	for _, name := range []string{"", "a b", "ä", strings.Repeat("c", MaxCounterName+1), "a\x00"} {
		_, _, err := in.ReadCounter(t.Context(), name)
		wantCode(t, err, tee.CodeParse)
		wantCode(t, in.AdvanceCounter(t.Context(), name, 0, digestOf(1)), tee.CodeParse)
	}
	p.Close()
	p = open(t, dir)
	in = start(t, p, testDocument(), nil)
	wantCounter(t, in, "c", 3)
	advanceTo(t, in, "c", 4)
}

func TestCounterScopes(t *testing.T) {
	p := newPlatform(t)
	key := newKey(t)
	d1, s1 := signedDocument(t, key, 7, 1)
	d2, s2 := signedDocument(t, key, 7, 2)
	d3, s3 := signedDocument(t, key, 8, 2)
	dd := d2
	dd.Debug = true
	v1, v2, product, debug := start(t, p, d1, s1), start(t, p, d2, s2), start(t, p, d3, s3), start(t, p, dd, s2)
	advanceTo(t, v1, "c", 1)
	advanceTo(t, v1.SignerCounters(), "c", 2)
	wantCounter(t, v1, "c", 1)
	wantCounter(t, v2, "c", 0)
	wantCounter(t, v2.SignerCounters(), "c", 2)
	wantCounter(t, start(t, p, d1, s1), "c", 1)
	for _, other := range []*Instance{product, debug} {
		wantCounter(t, other, "c", 0)
		wantCounter(t, other.SignerCounters(), "c", 0)
	}
	unsigned := start(t, p, testDocument(), nil)
	_, _, err := unsigned.SignerCounters().ReadCounter(t.Context(), "c")
	wantCode(t, err, tee.CodeSealPolicy)
	wantCode(t, unsigned.SignerCounters().AdvanceCounter(t.Context(), "c", 0, digestOf(1)), tee.CodeSealPolicy)
	_, _, err = unsigned.counters("anyone").ReadCounter(t.Context(), "c")
	wantCode(t, err, tee.CodeParse)
}

// snapshot holds a platform directory's counters as they are on disk.
type snapshot map[string][]byte

func take(t testing.TB, dir string) snapshot {
	t.Helper()
	s := snapshot{}
	for _, name := range []string{countersFile, anchorFile} {
		s[name] = must(os.ReadFile(filepath.Join(dir, name)))
	}
	return s
}

func (s snapshot) put(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{countersFile, anchorFile} {
		path := filepath.Join(dir, name)
		if b, there := s[name]; there {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollbackIsNoticed mixes the files of several generations while the
// platform is stopped.
func TestRollbackIsNoticed(t *testing.T) {
	p := newPlatform(t)
	dir := p.dir.path
	in := start(t, p, testDocument(), nil)
	at := []snapshot{take(t, dir)}
	for i := range uint64(4) {
		advanceTo(t, in, "c", i+1)
		at = append(at, take(t, dir))
	}
	p.Close()
	// A copy of the directory at generation 2 that went its own way.
	at[2].put(t, dir)
	q := open(t, dir)
	fork := start(t, q, testDocument(), nil)
	if err := fork.AdvanceCounter(t.Context(), "other", 0, digestOf(1)); err != nil {
		t.Fatal(err)
	}
	forked := take(t, dir)
	q.Close()
	stranger := newPlatform(t)
	strange := take(t, stranger.dir.path)
	altered := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	torn := bytes.Clone(at[4][anchorFile])
	copy(torn[(anchor{generation: 4}).slot():], bytes.Repeat([]byte{0xaa}, slotSize/2))

	cases := []struct {
		name              string
		counters, anchor  []byte
		code              tee.Code // "" means that it opens
		value             uint64
		mentions, missing string
	}{
		{name: "as it was", counters: at[4][countersFile], anchor: at[4][anchorFile], value: 4},
		{name: "anchor one behind: interrupted step", counters: at[4][countersFile], anchor: at[3][anchorFile], value: 4},
		{name: "anchor torn: interrupted step", counters: at[4][countersFile], anchor: torn, value: 4},
		{name: "counters one behind", counters: at[3][countersFile], anchor: at[4][anchorFile], code: tee.CodeRollback, mentions: "counters is older (generation 3) than file anchor (generation 4)"},
		{name: "counters far behind", counters: at[0][countersFile], anchor: at[4][anchorFile], code: tee.CodeRollback, mentions: "counters is older"},
		{name: "anchor two behind", counters: at[4][countersFile], anchor: at[2][anchorFile], code: tee.CodeRollback, mentions: "anchor is older (generation 2) than file counters (generation 4)"},
		{name: "counters of a fork", counters: forked[countersFile], anchor: at[3][anchorFile], code: tee.CodeRollback, mentions: "different histories"},
		{name: "next counters after a fork", counters: at[4][countersFile], anchor: forked[anchorFile], code: tee.CodeRollback, mentions: "different histories"},
		{name: "counters of another platform", counters: strange[countersFile], anchor: at[4][anchorFile], code: tee.CodeSealed, mentions: "another platform"},
		{name: "anchor of another platform", counters: at[4][countersFile], anchor: strange[anchorFile], code: tee.CodeSealed, mentions: "file anchor"},
		{name: "counters altered", counters: altered(at[4][countersFile], 40), anchor: at[4][anchorFile], code: tee.CodeSealed},
		{name: "counters truncated", counters: at[4][countersFile][:50], anchor: at[4][anchorFile], code: tee.CodeSealed},
		{name: "counters empty", counters: []byte{}, anchor: at[4][anchorFile], code: tee.CodeSealed},
		{name: "anchor empty", counters: at[4][countersFile], anchor: []byte{}, code: tee.CodeSealed},
		{name: "anchor zero", counters: at[4][countersFile], anchor: make([]byte, anchorSize), code: tee.CodeSealed},
		{name: "counters missing", anchor: at[4][anchorFile], code: tee.CodeRollback, mentions: "counters is missing", missing: countersFile},
		{name: "anchor missing", counters: at[4][countersFile], code: tee.CodeRollback, mentions: "anchor is missing", missing: anchorFile},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			at[4].put(t, dir)
			s := snapshot{countersFile: c.counters, anchorFile: c.anchor}
			delete(s, c.missing)
			s.put(t, dir)
			p, err := OpenPlatform(dir, Options{Runtime: testRuntime})
			if c.code != "" {
				wantCode(t, err, c.code)
				e, _ := errors.AsType[*tee.Error](err)
				if !strings.Contains(err.Error(), c.mentions) || !strings.Contains(e.Hint, "put back") {
					t.Errorf("error %q with hint %q does not say %q", err, e.Hint, c.mentions)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			in := start(t, p, testDocument(), nil)
			wantCounter(t, in, "c", c.value)
			advanceTo(t, in, "c", c.value+2)
		})
	}
}

// TestChangeWhileRunningIsNoticed puts files back under a running platform.
func TestChangeWhileRunningIsNoticed(t *testing.T) {
	cases := map[string]func(t *testing.T, dir string, older snapshot){
		"both older": func(t *testing.T, dir string, older snapshot) { older.put(t, dir) },
		"counters older": func(t *testing.T, dir string, older snapshot) {
			snapshot{countersFile: older[countersFile], anchorFile: take(t, dir)[anchorFile]}.put(t, dir)
		},
		"anchor older": func(t *testing.T, dir string, older snapshot) {
			snapshot{countersFile: take(t, dir)[countersFile], anchorFile: older[anchorFile]}.put(t, dir)
		},
		"counters missing": func(t *testing.T, dir string, _ snapshot) { snapshot{anchorFile: take(t, dir)[anchorFile]}.put(t, dir) },
		"anchor missing": func(t *testing.T, dir string, _ snapshot) {
			snapshot{countersFile: take(t, dir)[countersFile]}.put(t, dir)
		},
		"directory replaced": func(t *testing.T, dir string, _ snapshot) { replaceDirectory(t, dir) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t)
			in := start(t, p, testDocument(), nil)
			advanceTo(t, in, "c", 1)
			older := take(t, p.dir.path)
			advanceTo(t, in, "c", 2)
			newest := take(t, p.dir.path)
			change(t, p.dir.path, older)
			wantCode(t, in.AdvanceCounter(t.Context(), "c", 2, digestOf(3)), tee.CodeRollback)
			wantCounter(t, in, "c", 2)
			if name != "directory replaced" {
				newest.put(t, p.dir.path)
				advanceTo(t, in, "c", 3)
			}
		})
	}
}

func replaceDirectory(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Rename(dir+".copy", dir)); err != nil {
		t.Fatal(err)
	}
}

func TestCounterBounds(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	k := must(instanceCounters{in, scopeMeasurement}.key("test", "c"))
	fill := func(owner [32]byte, n int) map[counterKey]counterValue {
		m := make(map[counterKey]counterValue)
		for i := range n {
			if owner != k.owner {
				owner = [32]byte{byte(i), byte(i >> 8)}
			}
			m[counterKey{owner, fmt.Sprint("n", i)}] = counterValue{1, digestOf(1)}
		}
		return m
	}
	s := p.counters
	s.table.counters = fill(k.owner, MaxCountersPerOwner)
	wantCode(t, in.AdvanceCounter(t.Context(), "c", 0, digestOf(1)), tee.CodeUnavailable)
	advanceTo(t, in, "n3", 2)
	s.table.counters = fill([32]byte{}, MaxCounters)
	wantCode(t, in.AdvanceCounter(t.Context(), "c", 0, digestOf(1)), tee.CodeUnavailable)

	// The largest table fits its file.
	full := counterTable{generation: math.MaxUint64, counters: make(map[counterKey]counterValue)}
	for i := range MaxCounters {
		name := fmt.Sprint(i)
		full.counters[counterKey{[32]byte{byte(i), 255}, name + strings.Repeat("c", MaxCounterName-len(name))}] = counterValue{math.MaxUint64, [32]byte{255}}
	}
	file, mac, err := encodeCounters(full, s.key)
	if err != nil || len(file) > maxCounterFile {
		t.Fatal(len(file), err)
	}
	again, macAgain, err := parseCounters(file, s.key)
	if err != nil || mac != macAgain || !maps.Equal(full.counters, again.counters) {
		t.Error(err)
	}
}

func TestCounterFileRefuses(t *testing.T) {
	key := make([]byte, 32)
	file := func(b counterBody) []byte {
		body := must(encode(b))
		return must(encode(maced{Body: body, MAC: macOf(key, body)}))
	}
	rec := func(name string, value uint64) counterRecord { return counterRecord{Name: name, Value: value} }
	for name, b := range map[string]counterBody{
		"version":    {Version: 2},
		"unsorted":   {Version: 1, Counters: []counterRecord{rec("b", 1), rec("a", 1)}},
		"duplicate":  {Version: 1, Counters: []counterRecord{rec("a", 1), rec("a", 2)}},
		"zero value": {Version: 1, Counters: []counterRecord{rec("a", 0)}},
		"bad name":   {Version: 1, Counters: []counterRecord{rec("", 1)}},
		"too many":   {Version: 1, Counters: slices.Repeat([]counterRecord{rec("a", 1)}, MaxCounters+1)},
	} {
		if _, _, err := parseCounters(file(b), key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := parseCounters(file(counterBody{Version: 1, Counters: []counterRecord{rec("a", 1), rec("b", 1)}}), key); err != nil {
		t.Error(err)
	}
}

func TestConcurrentAdvances(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	const workers, each = 4, 5
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				from, _, err := in.ReadCounter(t.Context(), "c")
				if err != nil {
					t.Error(err)
					return
				}
				err = in.AdvanceCounter(t.Context(), "c", from, digestOf(from+1))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, &tee.Error{Code: tee.CodeCounter}):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantCounter(t, in, "c", workers*each)
}
