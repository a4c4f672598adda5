package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxEntries bounds the tables of a module: those that it starts with, and again
// what it may let them grow by. The engine keeps 8 bytes of our own memory for
// each entry and would give a module 2^32 of them.
const maxEntries = 1 << 20

// table is one entry of the table section (WebAssembly core specification,
// section 5.3.5).
type table struct {
	kind     byte
	min, max uint64
}

// boundTables writes the table section anew, so that no table can grow beyond
// its share of maxEntries.
func boundTables(section []byte) ([]byte, error) {
	count, rest, err := leb(section)
	if err != nil {
		return nil, err
	}
	if count > uint64(len(section)) { // each takes more than a byte
		return nil, errTruncated
	}
	tables, total := make([]table, count), uint64(0)
	for i := range tables {
		if tables[i], rest, err = readTable(rest); err != nil {
			return nil, err
		}
		total += tables[i].min
	}
	if total > maxEntries {
		return nil, fmt.Errorf("the module starts with %d table entries, at most %d are run", total, maxEntries)
	}
	if len(rest) > 0 {
		return nil, errors.New("the module is malformed: something follows its tables")
	}
	body := binary.AppendUvarint(nil, count)
	for _, t := range tables {
		body = append(body, t.kind, 1)
		body = binary.AppendUvarint(body, t.min)
		body = binary.AppendUvarint(body, min(t.max, t.min+maxEntries/count))
	}
	return append(binary.AppendUvarint([]byte{tableSection}, uint64(len(body))), body...), nil
}

func readTable(b []byte) (t table, rest []byte, err error) {
	if len(b) < 2 {
		return t, nil, errTruncated
	}
	flags := b[1]
	if flags > 1 {
		return t, nil, fmt.Errorf("the module is malformed: a table with flags %#x", flags)
	}
	t.kind, t.max = b[0], 1<<32-1
	if t.min, rest, err = leb(b[2:]); err == nil && flags == 1 {
		t.max, rest, err = leb(rest)
	}
	if err == nil && t.max < t.min {
		err = errors.New("the module is malformed: a table is larger than its own limit")
	}
	return t, rest, err
}
