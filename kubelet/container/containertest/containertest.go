// Package containertest holds what tests of the container contract share: Fake,
// an implementation in memory for tests of the kubelet's other parts, and
// Suite, the behaviour every implementation must show. It is imported by tests
// only. Goroutines: one per running command of a Fake, until it exits.
package containertest

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Program is a command as a Fake runs it: it returns its exit code, promptly
// once stop is closed. The file system it sees is the test's.
type Program func(stop <-chan struct{}, args []string, streams container.Streams) (exitCode int)

// programs are the commands of busybox that Suite uses, as far as it does.
// What is not listed runs until it is stopped.
var programs = map[string]Program{
	"/bin/true":  func(<-chan struct{}, []string, container.Streams) int { return 0 },
	"/bin/false": func(<-chan struct{}, []string, container.Streams) int { return 1 },
	"/bin/sleep": sleepProgram,
	"/bin/echo":  echoProgram,
	"/bin/cat":   catProgram,
	"/bin/sh":    shProgram,
}

// sleepProgram ignores how long it should sleep: tests do not wait.
func sleepProgram(stop <-chan struct{}, _ []string, _ container.Streams) int {
	<-stop
	return 143
}

func echoProgram(_ <-chan struct{}, args []string, s container.Streams) int {
	if s.Stdout != nil {
		fmt.Fprintln(s.Stdout, strings.Join(args[1:], " "))
	}
	return 0
}

func catProgram(stop <-chan struct{}, _ []string, s container.Streams) int {
	if s.Stdin == nil || s.Stdout == nil {
		<-stop
		return 143
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(s.Stdout, s.Stdin) // the reader decides how it ends
	}()
	select {
	case <-done:
		return 0
	case <-stop:
		return 143
	}
}

// shProgram knows "exit N", "echo words" and "while read", separated by ";" or "&&"; a word
// it does not know makes it run until it is stopped, as a server would.
func shProgram(stop <-chan struct{}, args []string, s container.Streams) int {
	if len(args) < 3 {
		return catProgram(stop, args, s)
	}
	script := strings.ReplaceAll(args[2], "&&", ";")
	for _, command := range strings.Split(script, ";") {
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "exit":
			if len(words) < 2 {
				return 0
			}
			code, err := strconv.Atoi(words[1])
			if err != nil {
				return 2
			}
			return code
		case "echo":
			out := s.Stdout
			if words[len(words)-1] == ">&2" {
				out, words = s.Stderr, words[:len(words)-1]
			}
			if out != nil {
				fmt.Fprintln(out, strings.Join(words[1:], " "))
			}
		case "true", "trap":
		case "while": // the loop that echoes what it reads
			return catProgram(stop, args, s)
		default:
			<-stop
			return 143
		}
	}
	return 0
}

// WaitFor reads events until one satisfies want, which also sees the Statuses
// of a full list one by one, and returns it; false when the channel closes or
// ctx ends first.
func WaitFor(ctx context.Context, events <-chan container.Event, want func(container.Status) bool) (container.Status, bool) {
	for {
		select {
		case <-ctx.Done():
			return container.Status{}, false
		case e, open := <-events:
			if !open {
				return container.Status{}, false
			}
			for _, s := range statuses(e) {
				if want(s) {
					return s, true
				}
			}
		}
	}
}

func statuses(e container.Event) []container.Status {
	if e.Full == nil {
		return []container.Status{e.Status}
	}
	var all []container.Status
	for _, sb := range e.Full {
		all = append(all, sb.Containers...)
	}
	return all
}

// patience is how long tests wait for what must happen; generous, because
// machines are loaded and a test that passes never waits that long.
const patience = 60 * time.Second
