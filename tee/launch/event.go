package launch

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// EventPrefix is how an encoded [Event] begins, so that it cannot be taken for
// anything else that is measured into the same register.
const EventPrefix = "cloister launch event v1\n"

// Bounds of an event.
const (
	MaxEvent      = MaxDocument + 8<<10 // encoded bytes
	MaxInstanceID = 128                 // bytes, printable ASCII without space
	MaxWalls      = 64                  // entries of walls and of missing walls
	MaxWall       = 64                  // bytes of one entry, printable ASCII
)

// Event is what the agent of a virtual machine measures before the program runs:
// which launch this is, and whom it takes its secrets from. The machine's own
// measurement says that it was our agent who did, so an event is worth nothing
// without it.
type Event struct {
	// Document is the launch document in its canonical form. Its signature has been
	// checked by the agent, if it names a signer.
	Document   []byte `cbor:"1,keyasint"`
	InstanceID string `cbor:"2,keyasint"`
	// NodeRoot is the SHA-256 of the root certificate, and NodeRuntime the runtime
	// digest, of the only node that the instance takes secrets from. The host chose
	// it: a relying party that cares compares.
	NodeRoot    []byte `cbor:"3,keyasint"`
	NodeRuntime []byte `cbor:"4,keyasint"`
	// Walls stand around the program, and Missing could not be put up.
	Walls   []string `cbor:"5,keyasint,omitempty"`
	Missing []string `cbor:"6,keyasint,omitempty"`
}

// Encode returns the event in deterministic CBOR after its prefix.
func (e Event) Encode() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	b, err := mode.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	if len(EventPrefix)+len(b) > MaxEvent {
		return nil, fmt.Errorf("%w: launch event of %d bytes, at most %d", ErrInvalid, len(b), MaxEvent)
	}
	return append([]byte(EventPrefix), b...), nil
}

// ParseEvent reads an event and its document, and refuses every other encoding of
// the same. Errors wrap [ErrInvalid].
func ParseEvent(b []byte) (Event, Document, error) {
	refuse := func(format string, a ...any) (Event, Document, error) {
		return Event{}, Document{}, fmt.Errorf("%w: launch event: "+format, append([]any{ErrInvalid}, a...)...)
	}
	if len(b) > MaxEvent {
		return refuse("%d bytes, at most %d", len(b), MaxEvent)
	}
	body, ok := bytes.CutPrefix(b, []byte(EventPrefix))
	if !ok {
		return refuse("it does not begin as one")
	}
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxArrayElements: 1024, MaxMapPairs: 64, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return Event{}, Document{}, err
	}
	var e Event
	if err := mode.Unmarshal(body, &e); err != nil {
		return refuse("%v", err)
	}
	again, err := e.Encode()
	if err != nil {
		return Event{}, Document{}, err
	}
	if !bytes.Equal(again, b) {
		return refuse("not in deterministic encoding")
	}
	d, err := Parse(e.Document)
	if err != nil {
		return Event{}, Document{}, err
	}
	return e, d, nil
}

func (e Event) validate() error {
	if len(e.Document) == 0 || len(e.Document) > MaxDocument {
		return fmt.Errorf("%w: launch event: document of %d bytes, want 1 to %d", ErrInvalid, len(e.Document), MaxDocument)
	}
	if len(e.NodeRoot) != sha256.Size || len(e.NodeRuntime) != sha256.Size {
		return fmt.Errorf("%w: launch event: the node has a root of %d and a runtime of %d bytes, want %d each", ErrInvalid, len(e.NodeRoot), len(e.NodeRuntime), sha256.Size)
	}
	if len(e.Walls) > MaxWalls || len(e.Missing) > MaxWalls {
		return fmt.Errorf("%w: launch event: %d and %d walls, at most %d each", ErrInvalid, len(e.Walls), len(e.Missing), MaxWalls)
	}
	if !printable(e.InstanceID, MaxInstanceID) {
		return fmt.Errorf("%w: launch event: instance id: want 1 to %d printable characters", ErrInvalid, MaxInstanceID)
	}
	for _, walls := range [][]string{e.Walls, e.Missing} {
		for _, w := range walls {
			if !printable(w, MaxWall) {
				return fmt.Errorf("%w: launch event: wall %.80q: want 1 to %d printable characters", ErrInvalid, w, MaxWall)
			}
		}
	}
	return nil
}

// printable reports whether s has 1 to most bytes of printable ASCII, no space.
func printable(s string, most int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= most
}
