package keys

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is key material. Whatever prints it prints "[redacted]", except that fmt
// cannot ask a value in an unexported field: do not print structs that have one.
type Secret []byte

const redacted = "[redacted]"

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format prints "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns "[redacted]": a secret does not leave by accident.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
