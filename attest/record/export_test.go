package record

import "bytes"

// Scan returns the records of a segment's bytes, and where the good ones end.
func Scan(b []byte) (names [][32]byte, bodies [][]byte, end int64, err error) {
	end, err = scan("segment", bytes.NewReader(b), 0, int64(len(b)), func(name digest, at, size int64) {
		names = append(names, name)
		bodies = append(bodies, b[at+int64(segmentHeader):][:size])
	})
	return names, bodies, end, err
}

// AppendEntry is appendEntry.
func AppendEntry(b, body []byte) []byte {
	b, _, err := appendEntry(b, body)
	if err != nil {
		panic(err)
	}
	return b
}
