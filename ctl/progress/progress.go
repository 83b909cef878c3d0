// Package progress prints one line per step of a long command: what it does,
// how long it took, and when it fails, why. There is no animation, so the
// output is the same in a terminal, a pipe and a CI log; colour is used only
// on a terminal and never with NO_COLOR. It starts no goroutines.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Printer prints steps. Use New. It is not safe for concurrent use.
type Printer struct {
	out   io.Writer
	now   func() time.Time
	start time.Time
	color bool
	quiet bool
}

// New returns a Printer that writes to out; quiet prints failures only.
func New(out io.Writer, quiet bool) *Printer {
	return &Printer{out: out, now: time.Now, start: time.Now(), color: Color(out), quiet: quiet}
}

// Color reports whether out wants colour: a terminal, TERM not dumb, NO_COLOR
// unset or empty (no-color.org).
func Color(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// Step runs do and prints one line about it. do returns a short text of what
// it found ("2 nodes"), which may be "".
func (p *Printer) Step(name string, do func() (detail string, err error)) error {
	started := p.now()
	detail, err := do()
	took := p.now().Sub(started)
	if err != nil {
		fmt.Fprintf(p.out, "%s %-28s %7.2fs\n", p.paint("31", "✗"), name, took.Seconds())
		return fmt.Errorf("%s: %w", name, err)
	}
	if !p.quiet {
		fmt.Fprintf(p.out, "%s %-28s %7.2fs  %s\n", p.paint("32", "✓"), name, took.Seconds(), detail)
	}
	return nil
}

// Say prints a line between steps.
func (p *Printer) Say(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// Elapsed is the time since New.
func (p *Printer) Elapsed() time.Duration { return p.now().Sub(p.start) }

func (p *Printer) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
