package registry

import (
	"fmt"
	"strconv"
	"strings"
)

// table is a [host."..."] of a hosts.toml, or (name "") what stands above all.
type table struct {
	name    string
	strings map[string]string
	bools   map[string]bool
	lists   map[string][]string
}

func newTable(name string) table {
	return table{name: name, strings: map[string]string{}, bools: map[string]bool{}, lists: map[string][]string{}}
}

// parseTOML reads the part of TOML that hosts.toml files use: tables named
// [host."..."], and keys with strings, booleans, and arrays of strings on one
// line. Other tables (headers, client certificates) are an error, so that no
// setting is ignored without a word.
func parseTOML(text string) ([]table, error) {
	tables := []table{newTable("")}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(stripComment(line))
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "[") {
			name, err := tableName(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			tables = append(tables, newTable(name))
			continue
		}
		if err := tables[len(tables)-1].set(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return tables, nil
}

// stripComment cuts a line at a # outside quotes.
func stripComment(line string) string {
	quote := rune(0)
	for i, c := range line {
		switch {
		case quote == 0 && c == '#':
			return line[:i]
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	return line
}

func tableName(line string) (string, error) {
	inner, ok := strings.CutPrefix(line, "[host.")
	inner, end := strings.CutSuffix(inner, "]")
	if !ok || !end {
		return "", fmt.Errorf("table %s: only [host.\"...\"] is known", line)
	}
	return unquote(strings.TrimSpace(inner))
}

func (t *table) set(line string) error {
	key, value, ok := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || key == "" || value == "" {
		return fmt.Errorf("%q: want key = value", line)
	}
	switch {
	case value == "true", value == "false":
		t.bools[key] = value == "true"
	case strings.HasPrefix(value, "["):
		inner, closed := strings.CutSuffix(strings.TrimPrefix(value, "["), "]")
		if !closed {
			return fmt.Errorf("%s: an array must end on its line", key)
		}
		list := []string{}
		for _, item := range strings.Split(inner, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			s, err := unquote(item)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			list = append(list, s)
		}
		t.lists[key] = list
	default:
		s, err := unquote(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		t.strings[key] = s
	}
	return nil
}

func unquote(s string) (string, error) {
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		return s[1 : len(s)-1], nil
	}
	if len(s) < 2 || s[0] != '"' {
		return "", fmt.Errorf("%s: want a quoted string", s)
	}
	out, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s, err)
	}
	return out, nil
}
