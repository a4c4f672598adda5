package record

import "bytes"

// Scan returns the records of a segment's bytes, and where the good ones end.
func Scan(b []byte) (names [][32]byte, bodies [][]byte, end int64, err error) {
	end, err = scan("segment", bytes.NewReader(b), 0, int64(len(b)), func(e entry, at, size int64) {
		names = append(names, e.name)
		bodies = append(bodies, b[at+int64(segmentHeader):][:size])
	})
	return names, bodies, end, err
}

// AppendRecord is appendEntry of a record, and AppendEvidence one of evidence.
func AppendRecord(b, body []byte) []byte { return appendOne(b, aRecord, body) }

// AppendEvidence: see AppendRecord.
func AppendEvidence(b, body []byte) []byte { return appendOne(b, anEvidence, body) }

func appendOne(b []byte, k kind, body []byte) []byte {
	b, _, err := appendEntry(b, k, body)
	if err != nil {
		panic(err)
	}
	return b
}

// Remembered is how many entries an archive has in memory.
func Remembered(a *Archive) int { return len(a.index.entries) + len(a.index.recent) }
