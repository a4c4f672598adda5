package eventlog

import (
	"encoding/binary"
	"slices"
)

// Encode returns the bytes of a log, for those who write logs and for tests. The
// events must have been made for l.Algorithms ([NewEvent]) or come from a log
// that was parsed. Reading it again gives an equal log.
func (l *Log) Encode() []byte {
	le := binary.LittleEndian
	var b []byte
	if l.Agile {
		header := slices.Concat(agileSignature, []byte{0, 0, 0, 0, 0, 2, 0, 2}) // client platform, version 2.0, 64-bit
		header = le.AppendUint32(header, uint32(len(l.Algorithms)))
		for i, a := range l.Algorithms {
			header = le.AppendUint16(header, uint16(a))
			header = le.AppendUint16(header, uint16(l.size(i)))
		}
		header = append(header, 0) // no bytes of the vendor
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(TypeNoAction))
		b = append(b, make([]byte, SHA1.Size())...)
		b = append(le.AppendUint32(b, uint32(len(header))), header...)
	}
	for _, e := range l.Events {
		b = le.AppendUint32(b, e.Register)
		b = le.AppendUint32(b, uint32(e.Type))
		if l.Agile {
			b = append(le.AppendUint32(b, uint32(len(l.Algorithms))), e.digests...)
		} else {
			b = append(b, e.Digest(SHA1)...)
		}
		b = append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}

func (l *Log) size(i int) int {
	if i < len(l.sizes) {
		return l.sizes[i]
	}
	return l.Algorithms[i].Size()
}
