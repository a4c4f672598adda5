package maa

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/cloister-cc/cloister/internal/frame"
)

// Log keeps the service's state: Append is durable and rollback-protected when it
// returns. Entries hold private keys; what keeps them must be sealed.
type Log interface {
	Append(entry []byte) error
}

// state is everything that is kept of a provider. Each change appends it whole,
// so that the last entry of a name counts.
type state struct {
	Name      string `cbor:"1,keyasint"`
	Owner     []byte `cbor:"2,keyasint"`
	Algorithm string `cbor:"3,keyasint"`
	Issuer    string `cbor:"4,keyasint"`
	Isolated  bool   `cbor:"5,keyasint"`
	GraceDays int    `cbor:"6,keyasint"`
	Created   int64  `cbor:"7,keyasint"` // Unix seconds, as all times here
	Changed   int64  `cbor:"8,keyasint"`
	// Policies are the JWS that set them, by attestation type.
	Policies map[string]string `cbor:"9,keyasint"`
	Signers  [][]byte          `cbor:"10,keyasint"` // certificates, DER
	Keys     []keyState        `cbor:"11,keyasint"` // the one that signs first
	Deleted  bool              `cbor:"12,keyasint"`
}

// keyState is a signing key. A retired one has no private half any more.
type keyState struct {
	Private     []byte `cbor:"1,keyasint"` // PKCS #8
	Certificate []byte `cbor:"2,keyasint"`
	Retired     int64  `cbor:"3,keyasint"` // 0: signs
}

// clone copies what a change may change.
func (s state) clone() state {
	policies := make(map[string]string, len(s.Policies))
	maps.Copy(policies, s.Policies)
	s.Policies = policies
	s.Signers = append([][]byte(nil), s.Signers...)
	s.Keys = append([]keyState(nil), s.Keys...)
	return s
}

func (s state) encode() ([]byte, error) {
	var b bytes.Buffer
	if err := frame.Write(&b, s); err != nil {
		return nil, err
	}
	return b.Bytes()[4:], nil
}

func decodeState(b []byte) (state, error) {
	var s state
	if err := frame.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("attestation provider: %w", err)
	}
	return s, nil
}
