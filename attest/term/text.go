package term

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const ellipsis = "…"

// Clean returns s without anything that a terminal or a log would act on
// (control, formatting and invalid characters become U+FFFD), cut to at most
// max bytes.
func Clean(s string, max int) string {
	if max <= 0 {
		return ""
	}
	cut := len(s) > max
	if cut {
		s = s[:max] // before the loop: its work is bounded, too
	}
	if !printable(s) {
		s = strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return utf8.RuneError
			}
			return r
		}, s)
		cut = cut || len(s) > max
	}
	if !cut {
		return s
	}
	end := max - len(ellipsis)
	if end < 0 {
		return ""
	}
	if end > len(s) {
		end = len(s)
	}
	for end > 0 && end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Value renders a claim's value for Want and Got: text in quotes, numbers and
// booleans as they are, and of lists and objects only what they are.
func Value(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return `"` + Clean(v, MaxValue-2) + `"`
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("an object of %d", len(v))
	case fmt.Stringer: // json.Number
		return Clean(v.String(), MaxValue)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int, int8, int16, int32, uint, uint8, uint16, uint32, float32:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T", v)
}

// String renders the tree, one term a line, indented by depth:
//
//	false  authorizationrules (2:1)
//	  false  [type=="debug", value==false] (3:3): want false, got true
func (n Node) String() string {
	r := renderer{left: MaxLines}
	r.node(n.bounded(), 0)
	return strings.TrimSuffix(r.b.String(), "\n")
}

type renderer struct {
	b    strings.Builder
	left int
}

func (r *renderer) node(n Node, depth int) {
	if r.left == 0 {
		return
	}
	if r.left--; r.left == 0 {
		r.b.WriteString(ellipsis)
		return
	}
	r.b.WriteString(strings.Repeat("  ", depth) + n.Result.String() + "  " + n.Text)
	if n.Position != "" {
		r.b.WriteString(" (" + n.Position + ")")
	}
	if n.Result == False || n.Result == Error {
		if s := n.wantGot(); s != "" {
			r.b.WriteString(": " + s)
		}
	}
	r.b.WriteByte('\n')
	for _, t := range n.Terms {
		r.node(t, depth+1)
	}
}

// wantGot returns "want …, got …", with what there is of it.
func (n Node) wantGot() string {
	var parts []string
	if n.Want != "" {
		parts = append(parts, "want "+n.Want)
	}
	if n.Got != "" {
		parts = append(parts, "got "+n.Got)
	}
	return strings.Join(parts, ", ")
}
