//go:build linux

package nft

import (
	"fmt"
	"slices"
	"strings"
)

// String is the table in nft's syntax: sets and chains sorted by name,
// elements by text, so that equal tables have equal text.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", familyName(t.Family), t.Name)
	sets := slices.Clone(t.Sets)
	slices.SortFunc(sets, func(a, c Set) int { return strings.Compare(a.Name, c.Name) })
	for i := range sets {
		b.WriteString(sets[i].header())
		b.WriteString(sets[i].elementsText())
		b.WriteString("\t}\n\n")
	}
	chains := slices.Clone(t.Chains)
	slices.SortFunc(chains, func(a, c Chain) int { return strings.Compare(a.Name, c.Name) })
	for i, c := range chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != nil {
			b.WriteString("\t\t" + c.Hook.text() + "\n")
		}
		b.WriteString(c.rulesText())
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s *Set) header() string {
	var b strings.Builder
	switch {
	case s.Verdicts:
		fmt.Fprintf(&b, "\tmap %s {\n\t\ttype %s : verdict\n", s.Name, typeNames(s.Key))
	case len(s.Value) > 0:
		fmt.Fprintf(&b, "\tmap %s {\n\t\ttype %s : %s\n", s.Name, typeNames(s.Key), typeNames(s.Value))
	default:
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.Name, typeNames(s.Key))
	}
	if s.Size > 0 {
		fmt.Fprintf(&b, "\t\tsize %d\n", s.Size)
	}
	var flags []string
	if s.Interval {
		flags = append(flags, "interval")
	}
	if s.Dynamic {
		flags = append(flags, "dynamic")
	}
	if s.Timeout > 0 {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		fmt.Fprintf(&b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if s.Timeout > 0 {
		fmt.Fprintf(&b, "\t\ttimeout %s\n", s.Timeout)
	}
	return b.String()
}

func (s *Set) elementsText() string {
	if len(s.Elements) == 0 {
		return ""
	}
	lines := make([]string, len(s.Elements))
	for i, e := range s.Elements {
		lines[i] = e.text()
	}
	slices.Sort(lines)
	return "\t\telements = { " + strings.Join(lines, ",\n\t\t\t     ") + " }\n"
}

func (e *Element) text() string {
	switch {
	case e.Verdict != nil:
		return e.Key.text + " : " + e.Verdict.text()
	case e.Value.bytes != nil:
		return e.Key.text + " : " + e.Value.text
	default:
		return e.Key.text
	}
}

func (h *Hook) text() string {
	policy := "accept"
	if h.Drop {
		policy = "drop"
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy %s;", h.Type, h.Name, h.Priority, policy)
}

func (c *Chain) rulesText() string {
	var b strings.Builder
	for _, r := range c.Rules {
		b.WriteString("\t\t" + r.text() + "\n")
	}
	return b.String()
}

func (r *Rule) text() string {
	parts := make([]string, len(r.Exprs))
	for i, e := range r.Exprs {
		parts[i] = e.text
	}
	text := strings.Join(parts, " ")
	if r.Comment != "" {
		text += fmt.Sprintf(" comment %q", r.Comment)
	}
	return text
}

func familyName(f Family) string {
	switch f {
	case IPv4:
		return "ip"
	case IPv6:
		return "ip6"
	case INet:
		return "inet"
	default:
		return fmt.Sprintf("family%d", f)
	}
}
