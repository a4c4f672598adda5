// Package seal encrypts state so that only the code that a seal policy names
// can read it again, on the same platform: AES-256-GCM under a key that the TEE
// derives anew for every blob.
//
// # What it protects against
//
// A host that reads or edits stored bytes, presents a blob of another program,
// another context or another platform, or an older security version's secrets
// to newer policies: each fails to open with [tee.CodeSealed] or
// [tee.CodeSealPolicy].
//
// # What it does not protect against
//
// Rollback: a host can always present an older blob. Bind state to a counter
// ([tee.Counters]) where that matters.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// MaxBlob is the largest sealed blob in bytes.
const MaxBlob = 1 << 30

// Overhead is an upper bound of how much longer a blob is than its plaintext.
const Overhead = 256

const (
	magic     = "CLSEAL1\n"
	maxHeader = 192
	nonceSize = 12
)

// header is public and authenticated; it says which key opens the blob.
type header struct {
	To   string `cbor:"1,keyasint"`
	SVN  uint32 `cbor:"2,keyasint,omitempty"`
	Salt []byte `cbor:"3,keyasint"` // makes every blob's key its own
}

// Seal encrypts plaintext under policy. aad is authenticated with it, not
// stored: [Unseal] needs the same.
func Seal(ctx context.Context, s tee.Sealer, policy tee.SealPolicy, plaintext, aad []byte) ([]byte, error) {
	h := header{To: policy.To, SVN: policy.SVN, Salt: make([]byte, 32)}
	if _, err := rand.Read(h.Salt); err != nil {
		return nil, err
	}
	encoded, err := cbor.Marshal(h)
	if err != nil {
		return nil, err
	}
	aead, err := cipherFor(ctx, s, policy, h.Salt)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(magic)+2+len(encoded)+nonceSize+len(plaintext)+aead.Overhead())
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(encoded)))
	out = append(out, encoded...)
	head := out
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plaintext, bind(head, aad)), nil
}

// Unseal opens a blob that [Seal] made. Bytes that were altered, truncated,
// sealed with other aad or by code outside the blob's policy give an error with
// [tee.CodeSealed]; which of these it was cannot be told.
func Unseal(ctx context.Context, s tee.Sealer, blob, aad []byte) ([]byte, error) {
	h, head, rest, err := parse(blob)
	if err != nil {
		return nil, err
	}
	aead, err := cipherFor(ctx, s, tee.SealPolicy{To: h.To, SVN: h.SVN}, h.Salt)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, rest[:nonceSize], rest[nonceSize:], bind(head, aad))
	if err != nil {
		return nil, refused("the bytes were altered, or sealed by other code, on another platform or for another purpose")
	}
	return plain, nil
}

// Policy returns the policy that a blob names, without opening it. It is not
// authenticated before [Unseal] succeeds.
func Policy(blob []byte) (tee.SealPolicy, error) {
	h, _, _, err := parse(blob)
	return tee.SealPolicy{To: h.To, SVN: h.SVN}, err
}

func parse(blob []byte) (h header, head, rest []byte, err error) {
	if len(blob) > MaxBlob || len(blob) < len(magic)+2 || string(blob[:len(magic)]) != magic {
		return header{}, nil, nil, refused("these are not sealed bytes")
	}
	n := int(binary.BigEndian.Uint16(blob[len(magic):]))
	end := len(magic) + 2 + n
	if n > maxHeader || len(blob) < end+nonceSize+16 {
		return header{}, nil, nil, refused("sealed bytes are truncated")
	}
	if err := frame.Unmarshal(blob[len(magic)+2:end], &h); err != nil {
		return header{}, nil, nil, refused("the header does not parse")
	}
	return h, blob[:end], blob[end:], nil
}

func cipherFor(ctx context.Context, s tee.Sealer, policy tee.SealPolicy, salt []byte) (cipher.AEAD, error) {
	key, err := s.SealingKey(ctx, policy, salt)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bind joins header and aad without ambiguity.
func bind(head, aad []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(head)+len(aad)), uint64(len(head)))
	return append(append(b, head...), aad...)
}

func refused(why string) error {
	return &tee.Error{Code: tee.CodeSealed, Op: "unseal", Err: errors.New(why)}
}
