package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"pgregory.net/rapid"
)

// small is a log of two events in the crypto-agile format.
func small() []byte {
	l := &eventlog.Log{Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}}
	l.Events = []eventlog.Event{
		eventlog.NewEvent(7, eventlog.TypeVariableConfig, []byte("variable"), []byte("variable"), l.Algorithms...),
		eventlog.NewEvent(7, eventlog.TypeSeparator, make([]byte, 4), make([]byte, 4), l.Algorithms...),
	}
	return l.Encode()
}

// Where things are in small.
const (
	headerData = 32
	algorithms = headerData + 24
	firstEvent = headerData + 24 + 4 + 2*4 + 1
)

func TestParseRefuses(t *testing.T) {
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint16(b[at:], v); return b }
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":                         func([]byte) []byte { return nil },
		"too long":                      func([]byte) []byte { return make([]byte, tee.MaxEventLog+1) },
		"header longer than the log":    put32(28, 0xfffffff0),
		"header shorter":                put32(28, 30),
		"no algorithms":                 put32(algorithms, 0),
		"many algorithms":               put32(algorithms, eventlog.MaxAlgorithms+1),
		"algorithm count overflows":     put32(algorithms, 0xffffffff),
		"algorithm twice":               put16(algorithms+8, uint16(eventlog.SHA256)),
		"size of a known algorithm":     put16(algorithms+6, 20),
		"size zero":                     put16(algorithms+6, 0),
		"unknown algorithm, long":       func(b []byte) []byte { return put16(algorithms+6, 65)(put16(algorithms+4, 0x12)(b)) },
		"vendor bytes beyond the end":   func(b []byte) []byte { b[firstEvent-1] = 9; return b },
		"register":                      put32(firstEvent, 24),
		"register overflows":            put32(firstEvent, 0xffffffff),
		"one digest less":               put32(firstEvent+8, 1),
		"digest count overflows":        put32(firstEvent+8, 0xffffffff),
		"digest of another algorithm":   put16(firstEvent+12, uint16(eventlog.SHA1)),
		"digest twice":                  put16(firstEvent+12, uint16(eventlog.SHA384)),
		"data longer than the log":      put32(firstEvent+12+34+50, 1000),
		"data overflows":                put32(firstEvent+12+34+50, 0xfffffff0),
		"bytes after the end":           func(b []byte) []byte { return append(b, 1) },
		"padding that is not":           func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0) },
		"too many events":               manyEvents,
		"digests of the unknown before": unknownFirst,
	} {
		t.Run(name, func(t *testing.T) {
			l, err := eventlog.Parse(change(small()))
			wantCode(t, err, tee.CodeParse)
			if l != nil {
				t.Error("a log beside an error")
			}
		})
	}
	if _, err := eventlog.Parse(small()); err != nil {
		t.Fatal(err)
	}
	old := (&eventlog.Log{Events: []eventlog.Event{separator(0)}}).Encode()
	if _, err := eventlog.Parse(old); err != nil {
		t.Error(err)
	}
	_, err := eventlog.ParseCCEL(old) // TDs have no SHA-1
	wantCode(t, err, tee.CodeParse)
}

func manyEvents([]byte) []byte {
	l := &eventlog.Log{Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA1}}
	l.Events = slices.Repeat([]eventlog.Event{eventlog.NewEvent(1, 5, nil, nil, eventlog.SHA1)}, eventlog.MaxEvents+1)
	return l.Encode()
}

// unknownFirst names the first algorithm one that is not known, of the same size.
func unknownFirst(b []byte) []byte {
	for _, at := range []int{algorithms + 4, firstEvent + 12} {
		binary.LittleEndian.PutUint16(b[at:], 0x12)
	}
	return b
}

// TestUnknownAlgorithmLast has SM3 where real logs have it: behind the others.
func TestUnknownAlgorithmLast(t *testing.T) {
	b := small()
	for at := firstEvent; at < len(b); at += 12 + 34 + 50 + 4 + int(binary.LittleEndian.Uint32(b[at+12+34+50:])) {
		binary.LittleEndian.PutUint16(b[at+12+34:], 0x12)
	}
	binary.LittleEndian.PutUint16(b[algorithms+8:], 0x12)
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if l.Events[0].Digest(0x12) != nil || !l.Events[0].Covered(eventlog.SHA256) {
		t.Error("digests are mixed up")
	}
	_, err = l.Replay(0x12)
	wantCode(t, err, tee.CodeUnsupported)
	_, err = l.Replay(eventlog.SHA384)
	wantCode(t, err, tee.CodeUnsupported)
	if !bytes.Equal(l.Encode(), b) {
		t.Error("writing it again gives another log")
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	b := small()
	second := firstEvent + 12 + 34 + 50 + 4 + len("variable")
	for n := range len(b) {
		l, err := eventlog.Parse(b[:n])
		if n == firstEvent || n == second { // shorter logs, which do not replay
			if err != nil || len(l.Events) != (n-firstEvent)/(second-firstEvent) {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		wantCode(t, err, tee.CodeParse)
	}
}

func TestPadding(t *testing.T) {
	for _, c := range []byte{0, 0xff} {
		for n := range 40 {
			l, err := eventlog.Parse(append(small(), bytes.Repeat([]byte{c}, n)...))
			if err != nil || len(l.Events) != 2 {
				t.Fatalf("%d bytes %#x: %v", n, c, err)
			}
		}
	}
}

// TestRoundTrip writes any log and reads it again.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &eventlog.Log{Agile: rapid.Bool().Draw(t, "agile"), Algorithms: []eventlog.Algorithm{eventlog.SHA1}}
		if l.Agile {
			l.Algorithms = rapid.SliceOfNDistinct(rapid.SampledFrom(eventlog.Algorithms()), 1, 4, rapid.ID).Draw(t, "algorithms")
		}
		for range rapid.IntRange(0, 8).Draw(t, "events") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data")
			kind := eventlog.Type(rapid.Uint32Range(1, 1<<32-2).Draw(t, "type"))
			l.Events = append(l.Events, eventlog.NewEvent(rapid.Uint32Range(0, 23).Draw(t, "register"), kind, data, data, l.Algorithms...))
		}
		b := l.Encode()
		if len(l.Events) == 0 && !l.Agile {
			return // no bytes at all are no log
		}
		again, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Encode(), b) || len(again.Events) != len(l.Events) {
			t.Fatal("reading gives another log")
		}
		for i, e := range again.Events {
			if e.Type != eventlog.TypeNoAction && !e.Covered(l.Algorithms[0]) {
				t.Fatalf("event %d has another digest", i)
			}
		}
	})
}

// TestNoAlias changes the bytes after reading them.
func TestNoAlias(t *testing.T) {
	b := small()
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(l.Events[0].Data) != "variable" {
		t.Error("the log changes with the bytes")
	}
}

// TestMemory wants no more memory than four times the bytes, for logs of the
// smallest events and for numbers that promise much.
func TestMemory(t *testing.T) {
	tiny := &eventlog.Log{}
	tiny.Events = slices.Repeat([]eventlog.Event{eventlog.NewEvent(1, 5, nil, nil, eventlog.SHA1)}, eventlog.MaxEvents)
	wide := &eventlog.Log{Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA1}, Events: tiny.Events}
	promise := binary.LittleEndian.AppendUint32(make([]byte, 28), 0xfffffff0)
	for name, b := range map[string][]byte{"old": tiny.Encode(), "agile": wide.Encode(), "promise": append(promise, make([]byte, 64<<10)...)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := eventlog.Parse(b)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(4*len(b)) {
			t.Errorf("%s: %d bytes of memory for %d bytes", name, got, len(b))
		}
		runtime.KeepAlive(l)
		if (err == nil) != (name != "promise") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
