package eventlog_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// vectorsDir holds real logs. It is beside the repository, not in it.
const vectorsDir = "../../../shared/vectors/attest"

// vector reads a file of a case, or skips.
func vector(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		tb.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
	}
	return b
}

// realLogs are the logs of the vectors that can be read.
func realLogs(tb testing.TB) map[string][]byte {
	tb.Helper()
	logs := make(map[string][]byte)
	for _, name := range []string{"tpm-eventlog-snp-ubuntu/eventlog.bin", "tdx4-gcp-cos113/ccel_data.bin"} {
		if b, err := os.ReadFile(filepath.Join(vectorsDir, name)); err == nil {
			logs[name] = b
		}
	}
	if b, err := os.ReadFile(filepath.Join(vectorsDir, "tpm-windows-gcp/dump.json")); err == nil {
		var dump struct{ Log struct{ Raw []byte } }
		if err := json.Unmarshal(b, &dump); err != nil {
			tb.Fatal(err)
		}
		logs["tpm-windows-gcp"] = dump.Log.Raw
	}
	return logs
}

// wantCode checks the code of an error of this package.
func wantCode(tb testing.TB, err error, code tee.Code) {
	tb.Helper()
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != code {
		tb.Fatalf("error %v, want code %s", err, code)
	}
}

// secureBoot is the data that firmware measures for the variable SecureBoot.
func secureBoot(value ...byte) []byte {
	b := []byte("\x61\xDF\xE4\x8B\xCA\x93\xD2\x11\xAA\x0D\x00\xE0\x98\x03\x2B\x8C")
	b = binary.LittleEndian.AppendUint64(b, 10)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, "S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00"...), value...)
}

// measured is an event that measures its data.
func measured(register uint32, t eventlog.Type, data []byte) eventlog.Event {
	return eventlog.NewEvent(register, t, data, data, eventlog.Algorithms()...)
}

// opaque is an event that measures something that the log does not say.
func opaque(register uint32, t eventlog.Type, data string, what []byte) eventlog.Event {
	return eventlog.NewEvent(register, t, []byte(data), what, eventlog.Algorithms()...)
}

func separator(register uint32) eventlog.Event {
	return measured(register, eventlog.TypeSeparator, make([]byte, 4))
}

// grub is an event of GRUB.
func grub(label, text string) eventlog.Event {
	return opaque(8, eventlog.TypeIPL, label+": "+text+"\x00", []byte(text))
}

// agile is a log of the given events with all algorithms, written and read.
func agile(tb testing.TB, events ...eventlog.Event) *eventlog.Log {
	tb.Helper()
	l := &eventlog.Log{Registers: eventlog.PCRs, Agile: true, Algorithms: eventlog.Algorithms(), Events: events}
	read, err := eventlog.Parse(l.Encode())
	if err != nil {
		tb.Fatal(err)
	}
	return read
}

// facts are those of a log when its own replay is what evidence proves, with
// each algorithm the same.
func facts(tb testing.TB, l *eventlog.Log) map[string]any {
	tb.Helper()
	replay, err := l.Replay(eventlog.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	f, failures := l.Verify(eventlog.SHA256, replay)
	if len(failures) > 0 {
		tb.Fatal(failures)
	}
	return f.Claims()
}
