package record_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
)

// small is a case whose record is short, one of many, with evidence of its own.
func small(i int) (record.Case, record.Record) {
	c := record.Case{Evidence: tee.Evidence{Data: fmt.Appendf(nil, "junk %d", i)}}
	r, _, _ := record.Judge(verifier(), c)
	r.TokenID = fmt.Sprint(i)
	return c, r
}

// filled is an archive with n records, and their names in order.
func filled(t testing.TB, n int) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c, r := small(i)
		name, err := a.Add(c, r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return dir, names
}

func segmentOf(dir string) string { return filepath.Join(dir, "records", "00000001.segment") }

// span is an entry of a segment.
type span struct {
	magic   string
	at, end int
}

// spans are the entries of a segment's bytes.
func spans(b []byte) (out []span) {
	for at := 0; at+40 <= len(b); {
		end := at + 40 + int(binary.LittleEndian.Uint32(b[at+4:]))
		out = append(out, span{string(b[at : at+4]), at, end})
		at = end
	}
	return out
}

// recordsIn are the entries that are records.
func recordsIn(all []span) []span {
	return slices.DeleteFunc(slices.Clone(all), func(s span) bool { return s.magic != "clrc" })
}

// TestTornAtEveryByte cuts a segment off at every byte: all records before are
// there, the error says what was left out, and what is added afterwards is kept.
func TestTornAtEveryByte(t *testing.T) {
	dir, names := filled(t, 3)
	whole, err := os.ReadFile(segmentOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	all := spans(whole)
	if len(all) != 6 || all[5].end != len(whole) || len(recordsIn(all)) != 3 {
		t.Fatal(all)
	}
	for cut := range len(whole) {
		last := 0 // where the last whole entry ends
		for _, s := range all {
			if s.end <= cut {
				last = s.end
			}
		}
		if cut < all[4].at && cut%7 != 0 && cut != last {
			continue // the first two are as the last
		}
		if err := os.WriteFile(segmentOf(dir), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := record.OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := len(recordsIn(spans(whole[:last])))
		got, err := a.Names()
		torn, isTorn := errors.AsType[*record.TornError](err)
		if isTorn == (cut == last) || err != nil && !isTorn || len(got) != want {
			t.Fatalf("cut at %d: %d names, want %d, error %v", cut, len(got), want, err)
		}
		if isTorn && (torn.At != int64(last) || torn.Bytes != int64(cut-last) || !errors.Is(err, record.ErrArchive) || !strings.Contains(err.Error(), "no whole record")) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		for i, name := range names {
			if _, _, err := a.Record(name); (err == nil) != (i < want) || i >= want && !record.Missing(err) {
				t.Fatalf("cut at %d, record %d: %v", cut, i, err)
			}
		}
		if cut%5 == 0 { // adding works all the same, and in another process too
			c, r := small(99)
			name, err := a.Add(c, r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := record.OpenArchive(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := again.Names(); len(got) != want+1 || !slices.Contains(got, name) || (err != nil) != isTorn {
				t.Fatalf("cut at %d: %d names after adding, %v", cut, len(got), err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "records", "00000002.segment")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestUnwrittenEnd: what a power failure leaves may be zeroes.
func TestUnwrittenEnd(t *testing.T) {
	dir, names := filled(t, 2)
	whole, err := os.ReadFile(segmentOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	first := recordsIn(spans(whole))[0].end
	for _, from := range []int{0, 1, 39, 40, 41, len(whole) - first} {
		b := bytes.Clone(whole)
		clear(b[first+from:])
		b = append(b, make([]byte, 4096)...)
		if err := os.WriteFile(segmentOf(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := record.OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Names()
		if _, torn := errors.AsType[*record.TornError](err); !torn || !slices.Contains(got, names[0]) {
			t.Errorf("zeroes from %d: %v, %v", from, got, err)
		}
	}
}

// TestAlteredSegment changes each byte of a segment: nobody gets a record that was
// not added, and a change before the end is not taken for a crash.
func TestAlteredSegment(t *testing.T) {
	dir, names := filled(t, 3)
	whole, err := os.ReadFile(segmentOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	all := spans(whole)
	for at := range whole {
		if at%3 != 0 && at > 50 {
			continue
		}
		b := bytes.Clone(whole)
		b[at] ^= 0x11
		if err := os.WriteFile(segmentOf(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := record.OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		hit := slices.IndexFunc(all, func(s span) bool { return s.end > at })
		for i, s := range recordsIn(all) {
			_, got, err := a.Record(names[i])
			ofIt := hit/2 == i // the record, or its evidence
			if err == nil && !bytes.Equal(got, whole[s.at+40:s.end]) || all[hit] == s && !errors.Is(err, record.ErrArchive) || all[hit].at > s.at && err != nil {
				t.Fatalf("byte %d, record %d: %v", at, i, err)
			}
			if r, err := a.Replay(verifier(), names[i]); ofIt && !errors.Is(err, record.ErrArchive) || all[hit].at > s.at && (err != nil || r.Different != "token_id" && !r.Same) {
				t.Fatalf("byte %d, record %d: %+v, %v", at, i, r, err)
			}
		}
		checkSurvey(t, a, at, hit, all)
	}
}

// checkSurvey: the list of records, and the survey of them, say what is wrong with an
// archive whose entry hit was altered at a byte.
func checkSurvey(t *testing.T, a *record.Archive, at, hit int, all []span) {
	t.Helper()
	_, err := a.Names()
	_, torn := errors.AsType[*record.TornError](err)
	end := hit == len(all)-1
	inHeader := at-all[hit].at < 8 // magic and length; other names are just other entries that are none
	switch {
	case end && !torn, !end && torn, !end && inHeader && !errors.Is(err, record.ErrArchive):
		t.Fatalf("byte %d of entry %d: %v", at, hit, err)
	}
	seen := 0
	err = a.ImpactAll(t.Context(), verifier(), tee.Endorsements{}, at0, func(string, *record.Impact) error { seen++; return nil })
	// What was refused then is not judged again, and its evidence not read.
	if evidence := all[hit].magic == "clev" && !inHeader; evidence != (err == nil) || err != nil && !errors.Is(err, record.ErrArchive) || !evidence && seen > 2 {
		t.Fatalf("byte %d: survey of %d records, %v", at, seen, err)
	}
}

// TestAddTwice: what is added twice is there once, for this process and for others.
func TestAddTwice(t *testing.T) {
	dir, names := filled(t, 2)
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		c, r := small(i)
		for range 2 {
			if name, err := a.Add(c, r); err != nil || name != names[i] {
				t.Fatal(name, err)
			}
		}
	}
	var added []string
	twice := func(yield func(record.Case, record.Record) bool) {
		for i := range 6 {
			if c, r := small(5 - i/2); !yield(c, r) {
				return
			}
		}
	}
	if err := a.AddAll(twice, func(name string) { added = append(added, name) }); err != nil || len(added) != 6 || added[0] != added[1] {
		t.Fatalf("%v, %v", added, err)
	}
	for range 2 {
		if got, err := a.Names(); err != nil || len(got) != 5 {
			t.Errorf("%d names, %v", len(got), err)
		}
		seen := map[string]bool{}
		err = a.ImpactAll(t.Context(), verifier(), tee.Endorsements{}, at0, func(name string, _ *record.Impact) error {
			if seen[name] {
				t.Errorf("%s twice", name)
			}
			seen[name] = true
			return nil
		})
		if err != nil || len(seen) != 5 {
			t.Errorf("%d records, %v", len(seen), err)
		}
		if a, err = record.OpenArchive(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAddForYears: who only adds does not grow, and forgets no more than what saves
// space.
func TestAddForYears(t *testing.T) {
	dir := t.TempDir()
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	c, r := small(0)
	add := func() (names []string) {
		err := a.AddAll(func(yield func(record.Case, record.Record) bool) {
			for i := range n {
				if r.TokenID = fmt.Sprint(i); !yield(c, r) {
					return
				}
			}
		}, func(name string) { names = append(names, name) })
		if err != nil || len(names) != n {
			t.Fatalf("%d names, %v", len(names), err)
		}
		return names
	}
	first := add()
	if got := record.Remembered(a); got > 4096 {
		t.Errorf("%d entries in memory", got)
	}
	if again := add(); !slices.Equal(again, first) {
		t.Error("the second time they have other names")
	}
	slices.Sort(first)
	if got, err := a.Names(); err != nil || !slices.Equal(got, first) {
		t.Errorf("%d records, %v", len(got), err)
	}
	if got, err := a.Replay(verifier(), first[0]); err != nil || !got.Same {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOlderArchive reads records and evidence that are in a file each.
func TestOlderArchive(t *testing.T) {
	dir, names := filled(t, 3)
	a, err := record.OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		r, b, err := a.Record(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Case(r)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := json.Marshal(c.Evidence)
		if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, "evidence"), 0o700),
			os.WriteFile(filepath.Join(dir, "records", name+".json"), b, 0o600),
			os.WriteFile(filepath.Join(dir, "evidence", r.Evidence+".json"), ev, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(want int) {
		t.Helper()
		a, err := record.OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Names(); err != nil || len(got) != want {
			t.Errorf("%d names, want %d, %v", len(got), want, err)
		}
		seen := 0
		err = a.ImpactAll(t.Context(), verifier(), tee.Endorsements{}, at0, func(string, *record.Impact) error { seen++; return nil })
		if err != nil || seen != want {
			t.Errorf("%d records, want %d, %v", seen, want, err)
		}
		if r, err := a.Replay(verifier(), names[1]); err != nil || !r.Same {
			t.Errorf("%+v, %v", r, err)
		}
	}
	count(3) // in both
	if err := os.Remove(segmentOf(dir)); err != nil {
		t.Fatal(err)
	}
	count(3)
	if a, err = record.OpenArchive(dir); err != nil {
		t.Fatal(err)
	}
	c, r := small(7)
	if _, err := a.Add(c, r); err != nil {
		t.Fatal(err)
	}
	count(4)
}
