package tee

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// Measurement is the digest of the code that a TEE launched: MEASUREMENT of
// SEV-SNP, MRTD of TDX, MRENCLAVE of SGX, PCR values of a TPM, the launch
// measurement of the software TEE. Its length depends on the TEE (32 or 48
// bytes). It marshals to lower-case hex. The zero value equals nothing, not
// even itself.
type Measurement []byte

// ParseMeasurement reads the hex form (either case) of a 32- or 48-byte
// measurement.
func ParseMeasurement(s string) (Measurement, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("measurement %q is not hex", s)
	}
	if len(b) != 32 && len(b) != 48 {
		return nil, fmt.Errorf("measurement is %d bytes: want 32 or 48", len(b))
	}
	return b, nil
}

// Equal reports, in constant time, whether both are the same non-empty value.
func (m Measurement) Equal(o Measurement) bool {
	return len(m) > 0 && subtle.ConstantTimeCompare(m, o) == 1
}

// String returns lower-case hex.
func (m Measurement) String() string { return hex.EncodeToString(m) }

// MarshalText implements [encoding.TextMarshaler] as lower-case hex.
func (m Measurement) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts what
// [ParseMeasurement] accepts, and the empty string as the empty measurement.
func (m *Measurement) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	v, err := ParseMeasurement(string(b))
	if err != nil {
		return err
	}
	*m = v
	return nil
}
