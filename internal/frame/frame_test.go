package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// message has the kinds of fields that our protocols use.
type message struct {
	Version uint8             `cbor:"1,keyasint"`
	Name    string            `cbor:"2,keyasint,omitempty"`
	Data    []byte            `cbor:"3,keyasint,omitempty"`
	List    [][]byte          `cbor:"4,keyasint,omitempty"`
	Env     map[string]string `cbor:"5,keyasint,omitempty"`
	Inner   *message          `cbor:"6,keyasint,omitempty"`
	Count   int64             `cbor:"7,keyasint,omitempty"`
	OK      bool              `cbor:"8,keyasint,omitempty"`
}

func draw(t *rapid.T, depth int) message {
	m := message{
		Version: rapid.Uint8().Draw(t, "version"), Name: rapid.String().Draw(t, "name"), Count: rapid.Int64().Draw(t, "count"), OK: rapid.Bool().Draw(t, "ok"),
		Data: rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "data"), List: rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 9), 1, 3).Draw(t, "list"),
		Env: rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(t, "env"),
	}
	if depth < 3 && rapid.Bool().Draw(t, "nested") {
		inner := draw(t, depth+1)
		m.Inner = &inner
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) message { return draw(t, 0) }), 1, 5).Draw(t, "messages")
		var b bytes.Buffer
		for _, m := range want {
			if err := Write(&b, m); err != nil {
				t.Fatal(err)
			}
		}
		once := bytes.Clone(b.Bytes())
		var r io.Reader = &b
		if rapid.Bool().Draw(t, "byte by byte") {
			r = iotest.OneByteReader(r)
		}
		var again bytes.Buffer
		for _, m := range want {
			var got message
			if err := Read(r, 1<<20, &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, got); d != "" {
				t.Fatalf("(-want +got):\n%s", d)
			}
			if err := Write(&again, got); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(once, again.Bytes()) {
			t.Fatal("the same message has two encodings")
		}
		if err := Read(r, 1<<20, new(message)); err != io.EOF {
			t.Fatalf("between frames: %v, want io.EOF alone", err)
		}
	})
}

func TestWriteFormat(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, message{Version: 1, Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if want := "\x00\x00\x00\x06\xa2\x01\x01\x02\x61a"; b.String() != want {
		t.Errorf("% x, want % x", b.String(), want)
	}
	if err := Write(&b, make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
	if err := Write(brokenPipe{}, message{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// raw is a frame with any body.
func raw(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

func TestReadRefuses(t *testing.T) {
	deep := strings.Repeat("\xa2\x01\x00\x06", 20) + "\xa1\x01\x00"
	cases := map[string]string{
		"part of a length":        "\x00\x00\x00",
		"length without a body":   "\x00\x00\x00\x05",
		"truncated body":          raw("\xa1\x01\x01")[:6],
		"empty frame":             raw(""),
		"longer than the limit":   raw(strings.Repeat("a", 1001)),
		"length of 4 GiB":         "\xff\xff\xff\xff\xa0",
		"bytes behind the item":   raw("\xa1\x01\x01\x00"),
		"two items":               raw("\xa1\x01\x01\xa1\x01\x01"),
		"truncated item":          raw("\xa1\x01"),
		"not an object":           raw("\x01"),
		"field twice":             raw("\xa2\x01\x01\x01\x02"),
		"unknown field":           raw("\xa1\x18\x63\x01"),
		"field by name":           raw("\xa1\x61a\x01"),
		"wrong type":              raw("\xa1\x01\x61a"),
		"number too large":        raw("\xa1\x01\x19\x01\x00"),
		"negative":                raw("\xa1\x01\x20"),
		"indefinite map":          raw("\xbf\x01\x01\xff"),
		"indefinite text":         raw("\xa1\x02\x7f\x61a\xff"),
		"tag":                     raw("\xc1\xa1\x01\x01"),
		"tag inside":              raw("\xa1\x01\xc1\x01"),
		"text that is no UTF-8":   raw("\xa1\x02\x62\xff\xfe"),
		"nested deep":             raw(deep),
		"list of 4 billion":       raw("\xa1\x04\x9a\xff\xff\xff\xff"),
		"text of 4 billion bytes": raw("\xa1\x02\x7a\xff\xff\xff\xff"),
		"map key twice, inside":   raw("\xa1\x05\xa2\x61a\x61b\x61a\x61c"),
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			err := Read(strings.NewReader(in), 1000, new(message))
			if !errors.Is(err, ErrFrame) {
				t.Errorf("got %v, want ErrFrame", err)
			}
		})
	}
	if err := Read(strings.NewReader(raw("\xa1\x01\x01")), 3, new(message)); err != nil {
		t.Errorf("a frame of exactly the limit: %v", err)
	}
	if err := Read(strings.NewReader(""), 1000, new(message)); err != io.EOF {
		t.Errorf("an empty stream: %v, want io.EOF alone", err)
	}
	if err := Read(iotest.ErrReader(io.ErrClosedPipe), 1000, new(message)); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrFrame) {
		t.Errorf("a broken stream: %v", err)
	}
	if err := Read(strings.NewReader(raw("\xa0")), -1, new(message)); !errors.Is(err, ErrFrame) {
		t.Errorf("a negative limit: %v", err)
	}
}

// A peer that announces much and sends little costs little.
func TestReadAllocatesWhatArrives(t *testing.T) {
	const limit = 1 << 30
	in := string(binary.BigEndian.AppendUint32(nil, limit)) + "little"
	got := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if err := Read(strings.NewReader(in), limit, new(message)); !errors.Is(err, ErrFrame) {
				b.Fatal(err)
			}
		}
	})
	if n := got.AllocedBytesPerOp(); n > 64<<10 {
		t.Errorf("%d bytes allocated for %d bytes received", n, len(in))
	}
}

// Frames are read one by one, and nothing behind them is touched.
func TestReadTakesOneFrame(t *testing.T) {
	r := strings.NewReader(raw("\xa1\x01\x01") + "rest")
	if err := Read(r, 100, new(message)); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left %q", rest)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	inner := message{Version: 2, Env: map[string]string{"a": "b"}}
	for _, m := range []message{{}, {Version: 1, Name: "n", Data: []byte{1}, List: [][]byte{{2}, {3}}, Inner: &inner, Count: -1, OK: true}} {
		if err := Write(&b, m); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes(), uint8(0), uint8(0))
	f.Add(b.Bytes(), uint8(3), uint8(9))
	f.Add([]byte(raw("\xbf\x01\x01\xff")), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, cut, swap uint8) {
		if int(cut) < len(b) {
			b = b[:len(b)-int(cut)] // truncated
		}
		if n := int(swap); n < len(b) {
			b = append(bytes.Clone(b[n:]), b[:n]...) // reordered
		}
		const limit = 4096
		r := bytes.NewReader(b)
		for {
			before := r.Len()
			var m message
			err := Read(r, limit, &m)
			if err == io.EOF {
				if before != 0 {
					t.Fatalf("the end with %d bytes left", before)
				}
				return
			}
			if err != nil {
				if !errors.Is(err, ErrFrame) {
					t.Fatal(err)
				}
				return
			}
			if n := before - r.Len(); n < 5 || n > 4+limit {
				t.Fatalf("a frame of %d bytes", n)
			}
			var once, again bytes.Buffer
			var twin message
			if err := Write(&once, m); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(Read(bytes.NewReader(once.Bytes()), 2*limit, &twin), Write(&again, twin)); err != nil || !bytes.Equal(once.Bytes(), again.Bytes()) {
				t.Fatalf("%+v reads back as %+v: %v", m, twin, err)
			}
		}
	})
}
