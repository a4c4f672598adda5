package launch_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/tee/launch"
)

func exampleEvent(t testing.TB) launch.Event {
	t.Helper()
	document, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return launch.Event{
		Document: document, InstanceID: "0123456789abcdef", NodeRoot: bytes.Repeat([]byte{1}, 32), NodeRuntime: bytes.Repeat([]byte{2}, 32),
		Walls: []string{"seccomp"}, Missing: []string{"landlock"},
	}
}

func TestEvent(t *testing.T) {
	e := exampleEvent(t)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, d, err := launch.ParseEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got) + cmp.Diff(example(), d); diff != "" {
		t.Error(diff)
	}
}

func TestEventRefuses(t *testing.T) {
	good, err := exampleEvent(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for text, change := range map[string]func(*launch.Event){
		"document of 0":        func(e *launch.Event) { e.Document = nil },
		"document of 65537":    func(e *launch.Event) { e.Document = make([]byte, launch.MaxDocument+1) },
		"root of 31":           func(e *launch.Event) { e.NodeRoot = e.NodeRoot[1:] },
		"runtime of 0":         func(e *launch.Event) { e.NodeRuntime = nil },
		"instance id":          func(e *launch.Event) { e.InstanceID = "a b" },
		"instance id: want":    func(e *launch.Event) { e.InstanceID = "" },
		"65 and 1 walls":       func(e *launch.Event) { e.Walls = make([]string, launch.MaxWalls+1) },
		`wall "": want 1 to 6`: func(e *launch.Event) { e.Missing = []string{""} },
	} {
		e := exampleEvent(t)
		change(&e)
		if b, err := e.Encode(); !errors.Is(err, launch.ErrInvalid) || !strings.Contains(err.Error(), text) || b != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	notADocument := exampleEvent(t)
	notADocument.Document = []byte{0xA0}
	inner, err := notADocument.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for text, b := range map[string][]byte{
		"does not begin": good[1:], "EOF": good[:len(good)-1], "extraneous": append(bytes.Clone(good), 0), "at most": make([]byte, launch.MaxEvent+1),
		"version 0": inner, "unexpected": []byte(launch.EventPrefix + "\xff"),
	} {
		if e, d, err := launch.ParseEvent(b); !errors.Is(err, launch.ErrInvalid) || !strings.Contains(err.Error(), text) || e.Document != nil || d.Version != 0 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParseEvent: what is accepted is canonical.
func FuzzParseEvent(f *testing.F) {
	good, err := exampleEvent(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(launch.EventPrefix))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, _, err := launch.ParseEvent(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted bytes are not canonical: %v", err)
		}
	})
}
