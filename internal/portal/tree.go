package portal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds of a tree of claims: it comes from evidence that verified, and still from
// somebody else.
const (
	maxDepth    = 8
	maxChildren = 256
)

// branch is one claim, or several below one name.
type branch struct {
	Name     string
	Value    string
	Long     bool // a value that wants a line of its own
	Children []branch
}

// tree makes claims readable: sorted by name, with bounds.
func tree(claims map[string]any) []branch { return branches(claims, maxDepth) }

func branches(m map[string]any, depth int) []branch {
	var out []branch
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if len(out) == maxChildren {
			return append(out, branch{Name: "…", Value: fmt.Sprintf("%d more", len(m)-maxChildren)})
		}
		out = append(out, branchOf(name, m[name], depth-1))
	}
	return out
}

func branchOf(name string, v any, depth int) branch {
	b := branch{Name: name}
	switch v := v.(type) {
	case map[string]any:
		if depth <= 0 {
			b.Value = "…"
			return b
		}
		b.Children = branches(v, depth)
		if len(b.Children) == 0 {
			b.Value = "none"
		}
	case []any:
		b.list(v, depth)
	case string:
		b.Value = v
	case bool:
		b.Value = yesNo(v)
	default:
		b.Value = fmt.Sprint(v)
	}
	if b.Value == "" && len(b.Children) == 0 {
		b.Value = "none"
	}
	b.Long = len(b.Value) > 40
	return b
}

// list shows short plain lists in one line.
func (b *branch) list(v []any, depth int) {
	var words []string
	for _, e := range v {
		switch e := e.(type) {
		case map[string]any, []any:
			words = nil
		default:
			words = append(words, fmt.Sprint(e))
			continue
		}
		break
	}
	if len(words) == len(v) {
		b.Value = strings.Join(words, ", ")
		return
	}
	if depth <= 0 {
		b.Value = "…"
		return
	}
	for i, e := range v[:min(len(v), maxChildren)] {
		b.Children = append(b.Children, branchOf(fmt.Sprint(i+1), e, depth-1))
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// gloss says what a claim is, in the words of the glossary.
func gloss(claim string) string {
	switch claim {
	case "tee":
		return "kind of trusted execution environment"
	case "simulated":
		return "whether it protects nothing from the host"
	case "debug":
		return "whether the host may read memory by design"
	case "measurement":
		return "digest of the code that the TEE launched"
	case "launch_digest":
		return "SHA-256 of the launch document"
	case "signer":
		return "SHA-256 of the public key that signed the image"
	case "product":
		return "what the signer calls its line of images"
	case "svn":
		return "security version number of the image"
	case "report_data":
		return "what the attester was asked to have signed"
	case "instance_id":
		return "the instance that the evidence is of"
	case "platform":
		return "identity of the chip, or of the software TEE's platform"
	case "tcb_status":
		return "how current the trusted firmware is"
	case "runtime_digest":
		return "digest of the program that runs instances"
	case "walls":
		return "layers of the sandbox that stand"
	case "missing_walls":
		return "layers that this host does not offer"
	case "role":
		return "workload or node"
	default:
		return ""
	}
}
