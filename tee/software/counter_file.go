package software

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxCounterFile bounds the file of counters: every record at its largest.
const maxCounterFile = 1 << 20

// counterKey names a counter: whose it is, and its name.
type counterKey struct {
	owner [32]byte
	name  string
}

// counterValue is where a counter stands and which state it stands for.
type counterValue struct {
	value  uint64
	digest [32]byte
}

// counterTable is one generation of all counters of a platform.
type counterTable struct {
	generation uint64
	previous   [32]byte // MAC of the generation before; zero in generation 0
	counters   map[counterKey]counterValue
}

// counterBody is the encoding of a table.
type counterBody struct {
	Version    uint8           `cbor:"1,keyasint"`
	Generation uint64          `cbor:"2,keyasint"`
	Previous   [32]byte        `cbor:"3,keyasint"`
	Counters   []counterRecord `cbor:"4,keyasint"` // ascending by owner and name
}

type counterRecord struct {
	_      struct{} `cbor:",toarray"`
	Owner  [32]byte
	Name   string
	Value  uint64
	Digest [32]byte
}

func (r counterRecord) compare(o counterRecord) int {
	if c := bytes.Compare(r.Owner[:], o.Owner[:]); c != 0 {
		return c
	}
	return strings.Compare(r.Name, o.Name)
}

// maced is the form of the file: a body and its HMAC-SHA256.
type maced struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
	MAC  [32]byte
}

// encodeCounters returns the file of a table, and its MAC.
func encodeCounters(t counterTable, key []byte) (file []byte, mac [32]byte, err error) {
	body := counterBody{Version: 1, Generation: t.generation, Previous: t.previous}
	for k, v := range t.counters {
		body.Counters = append(body.Counters, counterRecord{Owner: k.owner, Name: k.name, Value: v.value, Digest: v.digest})
	}
	slices.SortFunc(body.Counters, counterRecord.compare)
	b, err := encode(body)
	if err != nil {
		return nil, mac, err
	}
	mac = macOf(key, b)
	file, err = encode(maced{Body: b, MAC: mac})
	return file, mac, err
}

// parseCounters reads a file of counters and checks its MAC first.
func parseCounters(file, key []byte) (t counterTable, mac [32]byte, err error) {
	outer, err := decode[maced](file, maxCounterFile)
	if err != nil {
		return t, mac, err
	}
	if mac = macOf(key, outer.Body); !hmac.Equal(mac[:], outer.MAC[:]) {
		return t, mac, errors.New("it was altered, or belongs to another platform")
	}
	body, err := decode[counterBody](outer.Body, maxCounterFile)
	if err != nil {
		return t, mac, err
	}
	if body.Version != 1 || len(body.Counters) > MaxCounters {
		return t, mac, fmt.Errorf("version %d with %d counters, want 1 and at most %d", body.Version, len(body.Counters), MaxCounters)
	}
	t = counterTable{body.Generation, body.Previous, make(map[counterKey]counterValue, len(body.Counters))}
	for i, r := range body.Counters {
		if i > 0 && body.Counters[i-1].compare(r) >= 0 {
			return t, mac, errors.New("counters are not in ascending order")
		}
		if err := validName("counter name", r.Name, MaxCounterName); err != nil || r.Value == 0 {
			return t, mac, errors.New("a counter without a name or value")
		}
		t.counters[counterKey{r.Owner, r.Name}] = counterValue{r.Value, r.Digest}
	}
	return t, mac, nil
}

func macOf(key, b []byte) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return [32]byte(h.Sum(nil))
}

// The anchor file says which generation of the counters is the newest: two
// slots, in blocks of their own, used in turn (generation N in slot N mod 2).
// The slot that is being written may be torn by a crash; the other one still
// holds the generation before.
const (
	slotStride = 4096
	slotSize   = 8 + 8 + 32 + 32
	anchorSize = 2 * slotStride
	slotMagic  = "CLANCHR1"
)

// anchor names one generation of the counters by number and MAC.
type anchor struct {
	generation uint64
	mac        [32]byte
}

// slot returns where the anchor goes in the file.
func (a anchor) slot() int64 { return int64(a.generation%2) * slotStride }

// encode returns the bytes of the anchor's slot: magic, generation (big
// endian), MAC of the counters, HMAC-SHA256 of all that.
func (a anchor) encode(key []byte) []byte {
	b := make([]byte, 0, slotSize)
	b = append(b, slotMagic...)
	b = binary.BigEndian.AppendUint64(b, a.generation)
	b = append(b, a.mac[:]...)
	seal := macOf(key, b)
	return append(b, seal[:]...)
}

// parseAnchor returns the newest intact anchor of a file.
func parseAnchor(file, key []byte) (anchor, error) {
	var newest anchor
	found := false
	if len(file) != anchorSize {
		return newest, fmt.Errorf("%d bytes, want %d", len(file), anchorSize)
	}
	for offset := int64(0); offset < anchorSize; offset += slotStride {
		b := file[offset : offset+slotSize]
		a := anchor{binary.BigEndian.Uint64(b[8:]), [32]byte(b[16:])}
		if !hmac.Equal(a.encode(key), b) || a.slot() != offset {
			continue
		}
		if !found || a.generation > newest.generation {
			newest, found = a, true
		}
	}
	if !found {
		return newest, errors.New("it was altered, or belongs to another platform")
	}
	return newest, nil
}
