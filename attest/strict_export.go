package attest

// DecodeStrict reads one JSON value into v and refuses what encoding/json lets
// pass: unknown, duplicate and differently cased members, deep nesting, and
// bytes after the value. It is for policies and other documents in which a
// typing mistake must not be read as something else.
func DecodeStrict(b []byte, v any) error { return decodeStrict(b, v) }
