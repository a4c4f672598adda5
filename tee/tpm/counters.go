package tpm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// Counters are monotonic counters in NV memory of a TPM, one index each, which the
// owner's empty password opens. What is in them is authenticated with a key, so that
// nobody without it can set them; who can put back the TPM's whole memory, which is
// the host of an emulated one, can put them back. They are safe for concurrent use.
type Counters struct {
	attester *Attester
	key      []byte
	owner    [sha256.Size]byte
	turn     sync.Mutex // of who advances
}

// NewCounters returns the counters of an owner, under a key of at least 32 bytes.
// Another key or owner has other counters.
func NewCounters(a *Attester, key, owner []byte) *Counters {
	return &Counters{attester: a, key: key, owner: sha256.Sum256(owner)}
}

// The form of a counter: magic, value (u64, big endian), digest, whose it is, and
// the HMAC over them.
const (
	counterMagic  = "clct"
	counterSigned = len(counterMagic) + 8 + 2*sha256.Size
	counterSize   = counterSigned + sha256.Size
	// ownerIndices is the first of the NV indices that the owner hands out ("TCG
	// Registry of Reserved TPM 2.0 Handles and Localities", table of NV indices).
	ownerIndices = 0x01800000
	maxCounter   = 128 // bytes of a name
)

// counter says where a counter is, and whose.
func (c *Counters) counter(op, name string) (index uint32, id [sha256.Size]byte, err error) {
	if name == "" || len(name) > maxCounter {
		return 0, id, &tee.Error{Code: tee.CodeParse, Op: op, Err: fmt.Errorf("counter name of %d bytes, want 1 to %d", len(name), maxCounter)}
	}
	full := tee.Bind("cloister TPM counter v1", c.owner[:], []byte(name))
	copy(id[:], full[:])
	return ownerIndices + binary.BigEndian.Uint32(id[:])%(1<<22), id, nil
}

// ReadCounter returns the counter's value and digest; see tee.Counters. Errors are
// *tee.Error: CodeParse (name), CodeRollback (altered, or another key's), CodeUnavailable.
func (c *Counters) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	op := "read counter " + fmt.Sprintf("%.40q", name)
	index, id, err := c.counter(op, name)
	if err != nil {
		return 0, [32]byte{}, err
	}
	b, err := c.attester.ReadNV(ctx, index, counterSize)
	if NoIndex(err) {
		return 0, [32]byte{}, nil
	}
	if err != nil {
		return 0, [32]byte{}, err
	}
	value, digest, err := c.open(b, id)
	if err != nil {
		return 0, [32]byte{}, &tee.Error{Code: tee.CodeRollback, Op: op, Err: err, Hint: "the TPM's memory was changed from outside, or another release of the machine made it"}
	}
	return value, digest, nil
}

// AdvanceCounter advances the counter; see tee.Counters. Errors are those of
// ReadCounter, and CodeCounter. After CodeUnavailable it stands at from or from+1.
func (c *Counters) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	op := "advance counter " + fmt.Sprintf("%.40q", name)
	c.turn.Lock()
	defer c.turn.Unlock()
	value, _, err := c.ReadCounter(ctx, name)
	if err != nil {
		return err
	}
	if value != from || from == 1<<64-1 {
		return &tee.Error{Code: tee.CodeCounter, Op: op, Err: fmt.Errorf("it stands at %d, not at %d", value, from)}
	}
	index, id, err := c.counter(op, name)
	if err != nil {
		return err
	}
	return c.attester.WriteNV(ctx, index, c.seal(from+1, digest, id))
}

func (c *Counters) seal(value uint64, digest, id [32]byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte(counterMagic), value)
	b = append(append(b, digest[:]...), id[:]...)
	return append(b, c.mac(b)...)
}

func (c *Counters) open(b []byte, id [32]byte) (value uint64, digest [32]byte, err error) {
	switch {
	case len(b) != counterSize || string(b[:len(counterMagic)]) != counterMagic:
		return 0, digest, errors.New("it is no counter")
	case !hmac.Equal(b[counterSigned:], c.mac(b[:counterSigned])):
		return 0, digest, errors.New("it was not written with this key")
	case [32]byte(b[counterSigned-32:counterSigned]) != id:
		return 0, digest, errors.New("it is another counter")
	}
	return binary.BigEndian.Uint64(b[len(counterMagic):]), [32]byte(b[len(counterMagic)+8:]), nil
}

func (c *Counters) mac(b []byte) []byte {
	m := hmac.New(sha256.New, c.key)
	m.Write(b)
	return m.Sum(nil)
}

// Interface guard.
var _ tee.Counters = (*Counters)(nil)
