package eventlog_test

import (
	"bytes"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

func FuzzParse(f *testing.F) {
	for _, b := range realLogs(f) {
		f.Add(bytes.TrimRight(b, "\xff"))
	}
	f.Add(small())
	f.Add((&eventlog.Log{Events: []eventlog.Event{separator(0)}}).Encode())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (*eventlog.Log, error){eventlog.Parse, eventlog.ParseCCEL} {
			l, err := parse(b)
			if err != nil {
				wantCode(t, err, tee.CodeParse)
				continue
			}
			again, err := eventlog.Parse(l.Encode())
			if err != nil && len(l.Encode()) > 0 {
				t.Fatal(err)
			}
			if err == nil && !bytes.Equal(again.Encode(), l.Encode()) {
				t.Fatal("reading, writing and reading gives another log")
			}
			for _, a := range eventlog.Algorithms() {
				registers, err := l.Replay(a)
				if err != nil {
					continue
				}
				if facts, failures := l.Verify(a, registers); len(failures) > 0 || facts.Claims() == nil {
					t.Fatalf("its own registers are not its: %v", failures)
				}
			}
		}
	})
}
