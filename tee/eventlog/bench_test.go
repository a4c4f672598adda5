package eventlog_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// BenchmarkVerify reads and replays the log of a real machine with 116 events and
// takes turns with hashing the same number of bytes once, the least that a reader
// could do. The metric x-of-sha256 is how many times as long it takes.
func BenchmarkVerify(b *testing.B) {
	log := vector(b, "tpm-eventlog-snp-ubuntu/eventlog.bin")
	l, err := eventlog.Parse(log)
	if err != nil {
		b.Fatal(err)
	}
	proven, err := l.Replay(eventlog.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	var ours, floor time.Duration
	for b.Loop() {
		start := time.Now()
		l, err := eventlog.Parse(log)
		if err != nil {
			b.Fatal(err)
		}
		if _, failures := l.Verify(eventlog.SHA256, proven); len(failures) > 0 {
			b.Fatal(failures)
		}
		middle := time.Now()
		sha256.Sum256(log)
		ours, floor = ours+middle.Sub(start), floor+time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(floor), "x-of-sha256")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/verify")
}
