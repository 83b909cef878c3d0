package component

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// journal records what parts do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// part is a Runnable whose steps the test controls.
type part struct {
	name    string
	journal *journal
	ready   atomic.Bool
	fail    chan error
}

func newPart(name string, j *journal) *part {
	return &part{name: name, journal: j, fail: make(chan error, 1)}
}

func (p *part) Run(ctx context.Context) error {
	p.journal.add("start " + p.name)
	p.ready.Store(true)
	defer p.journal.add("stop " + p.name)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-p.fail:
		return err
	}
}

func (p *part) Ready() error {
	if !p.ready.Load() {
		return errors.New("not yet")
	}
	return nil
}

func groupOf(parts ...*part) *Group {
	g := &Group{}
	for _, p := range parts {
		g.Parts = append(g.Parts, Part{p.name, p})
	}
	return g
}

func TestGroupStopsInReverse(t *testing.T) {
	j := &journal{}
	a, b, c := newPart("a", j), newPart("b", j), newPart("c", j)
	g := groupOf(a, b, c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	waitReady(t, g)
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("Run: %v", err)
	}
	want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}
	if got := j.all(); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if g.Ready() == nil {
		t.Error("ready after the stop")
	}
}

func TestGroupEndsWithAnyPart(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		end  error
		want error
	}{
		"with an error":    {boom, boom},
		"without an error": {nil, ErrEnded},
	} {
		t.Run(name, func(t *testing.T) {
			j := &journal{}
			a, b, c2 := newPart("a", j), newPart("b", j), newPart("c", j)
			g := groupOf(a, b, c2)
			done := make(chan error)
			go func() { done <- g.Run(t.Context()) }()
			waitReady(t, g)
			b.fail <- c.end
			err := <-done
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "run b") {
				t.Errorf("Run: %v, want %v of b", err, c.want)
			}
			if got := j.all(); got[len(got)-1] != "stop a" || got[len(got)-2] != "stop c" {
				t.Errorf("order %v", got)
			}
		})
	}
}

func TestGroupWaitsForReadiness(t *testing.T) {
	j := &journal{}
	slow := &gate{open: make(chan struct{})}
	after := newPart("after", j)
	g := &Group{Parts: []Part{{"slow", slow}, {"after", after}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	testkit.Eventually(t, "three questions", func() error {
		if slow.asked.Load() < 3 {
			return errors.New("not asked often enough")
		}
		return nil
	})
	if got := j.all(); len(got) != 0 {
		t.Fatalf("started %v before the part in front was ready", got)
	}
	close(slow.open)
	waitReady(t, g)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestGroupStopsWhileStarting(t *testing.T) {
	slow := &gate{open: make(chan struct{})}
	never := newPart("never", &journal{})
	g := &Group{Parts: []Part{{"slow", slow}, {"never", never}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if never.ready.Load() {
		t.Error("a part was started after the stop")
	}
}

// gate is ready once open is closed.
type gate struct {
	open  chan struct{}
	asked atomic.Int32
}

func (g *gate) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (g *gate) Ready() error {
	g.asked.Add(1)
	select {
	case <-g.open:
		return nil
	default:
		return errors.New("closed")
	}
}

func waitReady(t *testing.T, r interface{ Ready() error }) {
	t.Helper()
	testkit.Eventually(t, "readiness", r.Ready)
}
