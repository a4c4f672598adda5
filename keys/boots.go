package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// BootTokenSize is the length of a boot token in bytes.
const BootTokenSize = 32

// bootEntry is how far a machine with a TPM has got, by the tokens that it keeps in the
// TPM's memory. That memory is a file where the TPM is emulated: its host can put back
// an older one, or copy it, and no quote shows that. But a machine that was put back
// has a token that was replaced since.
type bootEntry struct {
	Platform string `cbor:"1,keyasint"` // the attestation key, as in the claims
	// Current is the SHA-256 of the token with which something was released last,
	// Pending that of the one that was given out since.
	Current []byte `cbor:"2,keyasint,omitempty"`
	Pending []byte `cbor:"3,keyasint,omitempty"`
	// Instance is the only one that the machine may be.
	Instance string `cbor:"4,keyasint,omitempty"`
}

// is reports whether a token is the one with that digest.
func is(token, digest []byte) bool {
	sum := sha256.Sum256(token)
	return len(digest) > 0 && subtle.ConstantTimeCompare(sum[:], digest) == 1
}

func rollback(want, got, hint string) error {
	return &tee.VerifyError{Kind: tee.TPM, Failures: []tee.Failure{{Code: tee.CodeRollback, Claim: "boot token", Want: want, Got: got, Hint: hint}}}
}

const (
	hintRollback = "older state of the machine's TPM was put back, or a copy of it has run since: what it was to keep secret could be read twice; delete the instance"
	hintCopied   = "the TPM belongs to another instance: its directory was copied"
)

// BeginBoot gives a machine its next boot token, for the one that it has from before
// (none for a new one). platform is its attestation key (tpm.KeyID), of which the
// caller has proven that it is the machine's. The machine keeps the token in its TPM
// before it asks for a release with it; until then, nothing has changed for it. A token
// that is not the last one is refused with CodeRollback in a *tee.VerifyError.
func (s *Service) BeginBoot(platform string, token []byte) ([]byte, error) {
	next := make([]byte, BootTokenSize)
	rand.Read(next)
	digest := sha256.Sum256(next)
	s.mu.Lock()
	b, seen := s.boots[platform]
	if seen && !is(token, b.Current) && !is(token, b.Pending) && len(b.Current) > 0 {
		s.mu.Unlock()
		return nil, rollback("the last one that was given out", "another", hintRollback)
	}
	if is(token, b.Pending) { // kept, and nothing was released with it
		b.Current = b.Pending
	}
	b.Platform, b.Pending = platform, digest[:]
	s.boots[platform] = b
	s.mu.Unlock()
	return next, s.keepBoot(b)
}

func (s *Service) keepBoot(b bootEntry) error {
	encoded, err := entry{Boot: &b}.encode()
	if err != nil {
		return err
	}
	_, err = s.commitReceipts([][]byte{encoded}, nil, nil)
	return err
}

// admitBoot refuses a release to a machine that does not have the token that it was
// given for this boot, and returns what is to be kept with the release. TEEs that
// have no such tokens have nothing to keep.
func (s *Service) admitBoot(c tee.Claims, token []byte) (*bootEntry, error) {
	if c.TEE != tee.TPM || !c.LaunchByGuest {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boots[c.Platform]
	switch {
	case b.Instance != "" && b.Instance != c.InstanceID:
		return nil, rollback("of instance "+b.Instance, fmt.Sprintf("of instance %.64q", c.InstanceID), hintCopied)
	case is(token, b.Pending):
		b.Current, b.Pending = b.Pending, nil
	case !is(token, b.Current):
		return nil, rollback("the one that was given out for this boot", "another", hintRollback)
	case b.Instance != "":
		return nil, nil // as it was
	}
	b.Instance = c.InstanceID
	s.boots[c.Platform] = b // before it is durable, so that of two at once one is refused
	return &b, nil
}
