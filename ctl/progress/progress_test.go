package progress

import (
	"errors"
	"strings"
	"testing"
)

func TestStepsAreLinesWithoutColour(t *testing.T) {
	var out strings.Builder
	p := New(&out, false)
	if err := p.Step("make it", func() (string, error) { return "made", nil }); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no disk")
	err := p.Step("break it", func() (string, error) { return "", cause })
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "break it") {
		t.Errorf("got %v", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "make it") || !strings.Contains(lines[0], "made") || !strings.Contains(lines[1], "break it") {
		t.Errorf("got %q", lines)
	}
	if strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("control characters in %q", out.String())
	}
}

func TestQuietPrintsFailuresOnly(t *testing.T) {
	var out strings.Builder
	p := New(&out, true)
	p.Say("hello")
	if err := p.Step("a", func() (string, error) { return "", nil }); err != nil || out.Len() != 0 {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := p.Step("b", func() (string, error) { return "", errors.New("x") }); err == nil || out.Len() == 0 {
		t.Error("a failure is silent")
	}
}
