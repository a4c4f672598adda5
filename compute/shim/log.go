package shim

import (
	"encoding/json"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits of the console log: one current file and one older one.
const (
	maxLogFile  = 4 << 20
	maxLogChunk = 32 << 10
)

// LogLine is one piece of what a program printed, as the console log keeps it:
// JSON, one per line.
type LogLine struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // "stdout" or "stderr"
	Text   string    `json:"text,omitempty"`
	Bytes  []byte    `json:"bytes,omitempty"` // when it is not UTF-8
}

// consoleLog appends to the console log and rotates it.
type consoleLog struct {
	path string

	mu     sync.Mutex
	file   *os.File
	size   int64
	closed bool
}

func openLog(path string) (*consoleLog, error) {
	l := &consoleLog{path: path}
	return l, l.open()
}

func (l *consoleLog) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	l.file, l.size = f, st.Size()
	return nil
}

// stream returns a writer for one of the program's streams. Its errors are
// swallowed: a full disk must not stop a program.
func (l *consoleLog) stream(name string) logStream { return logStream{l, name} }

type logStream struct {
	log  *consoleLog
	name string
}

func (s logStream) Write(p []byte) (int, error) {
	line := LogLine{Time: time.Now().UTC(), Stream: s.name}
	if utf8.Valid(p) {
		line.Text = string(p)
	} else {
		line.Bytes = p
	}
	b, err := json.Marshal(line)
	if err != nil {
		return 0, err
	}
	s.log.append(append(b, '\n'))
	return len(p), nil
}

func (l *consoleLog) append(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.file == nil && l.open() != nil {
		return
	}
	if l.size+int64(len(b)) > maxLogFile {
		_ = l.file.Close()
		l.file = nil
		_ = os.Rename(l.path, l.path+".1")
		if l.open() != nil {
			return
		}
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	if err != nil && n > 0 {
		l.cut(int64(n))
	}
}

// cut removes the half of a line that fitted on a full disk: the next line would
// be unreadable with it.
func (l *consoleLog) cut(n int64) {
	st, err := l.file.Stat()
	if err == nil && st.Size() >= n && l.file.Truncate(st.Size()-n) == nil {
		l.size -= n
	}
}

func (l *consoleLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
