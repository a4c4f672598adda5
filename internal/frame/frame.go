// Package frame reads and writes length-prefixed CBOR messages on a byte
// stream: 4 bytes length, big endian, then one deterministic CBOR item
// (RFC 8949 section 4.2.1). Every private protocol of this program uses it:
// shim and instance, shim and supervisor, program and agent.
//
// # What it protects against
//
// A peer that sends malformed, over-long, truncated or ambiguous messages:
// reading is bounded by a limit that the caller names, unknown and duplicate
// fields are refused, and no more is allocated than the peer has sent.
//
// # What it does not protect against
//
// A peer that reads, changes, reorders or replays messages. Whatever must
// survive a hostile host runs TLS inside (package attest/channel).
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// ErrFrame is wrapped by every refusal of a frame's content. The stream is of
// no more use: close it.
var ErrFrame = errors.New("bad frame")

// Write sends v as one frame.
func Write(w io.Writer, v any) error {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return err
	}
	body, err := mode.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(b, body...))
	return err
}

// Read receives one frame of at most limit bytes into v. It returns io.EOF,
// alone, when the stream ended between frames.
func Read(r io.Reader, limit int, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: truncated length", ErrFrame)
		}
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || int64(n) > int64(limit) {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrFrame, n, limit)
	}
	// The buffer grows with what arrives: a peer that announces much and sends
	// little costs little.
	var body bytes.Buffer
	if m, err := io.CopyN(&body, r, int64(n)); err != nil {
		return fmt.Errorf("%w: truncated after %d of %d bytes", ErrFrame, m, n)
	}
	return Unmarshal(body.Bytes(), v)
}

// Unmarshal decodes one CBOR item strictly into v.
func Unmarshal(b []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return err
	}
	if err := mode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return nil
}
