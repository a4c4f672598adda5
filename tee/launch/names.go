package launch

import "strings"

// Bounds of names.
const (
	maxFileName = 64
	maxEnvName  = 128
	maxKeyParts = 4
)

// validFileName wants lower-case letters, digits, ".", "_" and "-", and a letter
// or digit first. (Not a regular expression: every process of an instance would
// compile it when it starts.)
func validFileName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxFileName
}

// validEnvName wants letters, digits and "_", and no digit first.
func validEnvName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxEnvName
}

// ValidKeyName reports whether s can name a key at the key service: one to four
// parts of lower-case letters, digits, ".", "_" and "-", joined by "/".
func ValidKeyName(s string) bool {
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if !validFileName(p) {
			return false
		}
	}
	return len(parts) <= maxKeyParts
}
