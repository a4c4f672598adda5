package keys

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/internal/frame"
)

// Digest returns the SHA-256 of the receipt's deterministic CBOR; the next
// receipt names it as Previous.
func (r Receipt) Digest() [32]byte {
	var b bytes.Buffer
	if err := frame.Write(&b, r); err != nil {
		panic("keys: encode receipt: " + err.Error()) // fixed types only: cannot fail
	}
	return sha256.Sum256(b.Bytes()[4:])
}

// timestamp is how receipts write a time: RFC 3339, UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// commit makes a change durable together with its receipt.
func (s *Service) commit(e entry, r Receipt) error {
	b, err := e.encode()
	if err != nil {
		return err
	}
	r.Time = timestamp(s.cfg.Now())
	_, err = s.commitReceipts([][]byte{b}, []Receipt{r}, nil)
	return err
}

// commitReceipts numbers and chains receipts, appends them behind entries, and
// returns their numbers once all is durable, and the verdicts that they name.
func (s *Service) commitReceipts(entries [][]byte, receipts []Receipt, verdicts []record.Prepared) ([]uint64, error) {
	numbers := make([]uint64, len(receipts))
	if len(entries)+len(receipts)+len(verdicts) == 0 {
		return numbers, nil
	}
	s.mu.Lock()
	for i := range receipts {
		r := &receipts[i]
		r.Number, r.Previous = s.number+1, bytes.Clone(s.head[:])
		b, err := entry{Receipt: r}.encode()
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		entries = append(entries, b)
		s.number, s.head = r.Number, r.Digest()
		s.receipts = append(s.receipts, nil) // readable once it is durable
		numbers[i] = r.Number
	}
	// Enqueued under the lock, so that the log has the receipts in their order.
	pending := s.log.enqueue(entries, verdicts)
	s.mu.Unlock()
	refs, err := pending.wait()
	if err != nil {
		return nil, fmt.Errorf("keep receipt: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range numbers {
		s.receipts[n-1] = refs[len(refs)-len(numbers)+i]
	}
	return numbers, nil
}

// Receipt returns a receipt to the owner of its key.
func (s *Service) Receipt(owner []byte, number uint64) (Receipt, error) {
	if len(owner) != sha256.Size {
		return Receipt{}, ErrNoIdentity
	}
	r, err := s.receipt(number)
	if err != nil {
		return Receipt{}, err
	}
	if string(r.Owner) != string(owner) {
		return Receipt{}, ErrNotFound
	}
	return r, nil
}

// Receipts returns at most limit receipts of an owner with numbers above after,
// oldest first.
func (s *Service) Receipts(owner []byte, after uint64, limit int) ([]Receipt, error) {
	if len(owner) != sha256.Size {
		return nil, ErrNoIdentity
	}
	s.mu.RLock()
	last := s.number
	s.mu.RUnlock()
	list := []Receipt{}
	for n := after + 1; n <= last && len(list) < limit; n++ {
		r, err := s.receipt(n)
		if errors.Is(err, ErrNotFound) {
			break // being made durable: the next page has it
		}
		if err != nil {
			return nil, err
		}
		if string(r.Owner) == string(owner) {
			list = append(list, r)
		}
	}
	return list, nil
}

func (s *Service) receipt(number uint64) (Receipt, error) {
	s.mu.RLock()
	if number == 0 || number > uint64(len(s.receipts)) || s.receipts[number-1] == nil {
		s.mu.RUnlock()
		return Receipt{}, ErrNotFound
	}
	ref := s.receipts[number-1]
	s.mu.RUnlock()
	b, err := s.log.log.Read(ref)
	if err != nil {
		return Receipt{}, err
	}
	e, err := decodeEntry(b)
	if err != nil || e.Receipt == nil {
		return Receipt{}, fmt.Errorf("read receipt %d: not a receipt", number)
	}
	return *e.Receipt, nil
}
