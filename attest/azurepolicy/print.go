package azurepolicy

import "strings"

// String returns the policy in canonical form: one rule a line, the sections in
// the documented order, no comments. Parsing it gives an equal policy.
func (p *Policy) String() string {
	if p == nil || p.version == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("version= " + string(p.version) + ";\n")
	for k := range sectionCount {
		s := p.sections[k]
		if !s.given {
			continue
		}
		b.WriteString(k.String() + "\n{\n")
		for i := range s.rules {
			b.WriteString("\t" + s.rules[i].String() + ";\n")
		}
		b.WriteString("};\n")
	}
	return b.String()
}

// String is the rule without its semicolon.
func (r *rule) String() string {
	parts := make([]string, len(r.conditions))
	for i := range r.conditions {
		parts[i] = r.conditions[i].String()
	}
	s := strings.Join(parts, " && ")
	if s != "" {
		s += " "
	}
	return s + "=> " + r.act.source(r)
}

func (c *condition) String() string {
	parts := make([]string, len(c.tests))
	for i, t := range c.tests {
		parts[i] = t.prop.String() + t.op + source(t.operand)
	}
	s := "[" + strings.Join(parts, ", ") + "]"
	if c.id != "" {
		s = c.id + ":" + s
	}
	if c.negated {
		s = "!" + s
	}
	return s
}

func (a *action) source(r *rule) string {
	var parts []string
	if a.claim >= 0 {
		parts = append(parts, "claim="+r.conditions[a.claim].id)
	}
	if a.typ != nil {
		parts = append(parts, "type="+source(a.typ))
	}
	if a.value != nil {
		parts = append(parts, "value="+source(a.value))
	}
	if a.valueType != "" {
		parts = append(parts, `valueType="`+a.valueType+`"`)
	}
	return a.kind.String() + "(" + strings.Join(parts, ", ") + ")"
}

func source(e expr) string {
	switch e := e.(type) {
	case literal:
		return e.v.source()
	case reference:
		return e.id + "." + e.prop.String()
	case call:
		parts := make([]string, len(e.args))
		for i, a := range e.args {
			parts[i] = source(a)
		}
		return e.fn.name + "(" + strings.Join(parts, ", ") + ")"
	}
	return ""
}
