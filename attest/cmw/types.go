package cmw

import (
	"mime"
	"net/url"
	"strconv"
	"strings"
)

// Tags of content formats are TN(format) of RFC 9277 appendix B: the numbers from
// tagBase on, without those whose last byte would be 255 counted from there.
const (
	tagBase   = 0x63740101
	tagBlock  = 256
	tagUsed   = 255   // of a block
	maxTagged = 65024 // the last format that has a tag
)

// tagOf is TN.
func tagOf(format uint16) uint64 {
	return tagBase + uint64(format)/tagUsed*tagBlock + uint64(format)%tagUsed
}

// formatOf is the inverse of TN.
func formatOf(tag uint64) (uint16, bool) {
	n := tag - tagBase
	if tag < tagBase || n%tagBlock >= tagUsed || n/tagBlock*tagUsed+n%tagBlock > maxTagged {
		return 0, false
	}
	return uint16(n/tagBlock*tagUsed + n%tagBlock), true
}

// validMediaType accepts the Content-Type of RFC 9193 section 2.
func validMediaType(s string) bool {
	if len(s) > maxType || !printable(s) || s != strings.TrimSpace(s) || strings.HasSuffix(s, ";") {
		return false
	}
	name, _, err := mime.ParseMediaType(s)
	kind, sub, ok := strings.Cut(name, "/")
	return err == nil && ok && restricted(kind) && restricted(sub)
}

// restricted is the restricted-name of RFC 6838 section 4.2.
func restricted(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && strings.IndexByte("!#$&-^_.+", c) >= 0 {
			continue
		}
		return false
	}
	return s != "" && len(s) <= 127
}

// validCollectionType accepts an absolute URI (RFC 3986 section 4.3) and an
// absolute OID in numbers.
func validCollectionType(s string) bool {
	if len(s) > maxType || !printable(s) || strings.Contains(s, " ") {
		return false
	}
	if validOID(s) {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && !strings.Contains(s, "#") && len(s) > len(u.Scheme)+1
}

func validOID(s string) bool {
	arcs := strings.Split(s, ".")
	for i, arc := range arcs {
		n, err := strconv.ParseUint(arc, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != arc || i == 0 && n > 2 {
			return false
		}
	}
	return len(arcs) > 1
}

// printable is ASCII that can be seen, and spaces: labels and types are compared,
// shown and logged, and other text can look like what it is not.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
