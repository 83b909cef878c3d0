package syncer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// source is a Source with Services set by the test.
type source struct {
	wake     chan struct{}
	services map[string]*corev1.Service
	slices   map[string][]*discoveryv1.EndpointSlice
	dirty    map[string]struct{}
	all      bool
}

func newSource() *source {
	return &source{wake: make(chan struct{}, 1), services: map[string]*corev1.Service{}, slices: map[string][]*discoveryv1.EndpointSlice{}, dirty: map[string]struct{}{}, all: true}
}

// set changes Services, given by name and address ("" removes), and wakes the
// syncer, which sleeps until then.
func (s *source) set(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		key := "ns/" + pairs[i]
		delete(s.services, key)
		if pairs[i+1] != "" {
			s.services[key] = testkit.Service("ns", pairs[i], pairs[i+1], 80, 8080)
		}
		s.dirty[key] = struct{}{}
	}
	s.signal()
}

func (s *source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *source) Changed() <-chan struct{} { return s.wake }

func (s *source) Take() (map[string]struct{}, bool) {
	dirty, all := s.dirty, s.all
	s.dirty, s.all = map[string]struct{}{}, false
	return dirty, all
}

func (s *source) Services() []*corev1.Service {
	var all []*corev1.Service
	for _, svc := range s.services {
		all = append(all, svc)
	}
	return all
}

func (s *source) Service(key string) *corev1.Service { return s.services[key] }

func (s *source) Slices(service string) []*discoveryv1.EndpointSlice { return s.slices[service] }

func (s *source) Zone() string { return "" }

// recorder is a backend that writes down what it is told and when.
type recorder struct {
	started time.Time
	log     []string
	fail    int // so many syncs fail
}

func (r *recorder) Name() string { return "recorder" }

func (r *recorder) Available(context.Context) error { return nil }

func (r *recorder) Cleanup(context.Context) error { return nil }

func (r *recorder) Forget() { r.log = append(r.log, "forget") }

func (r *recorder) Sync(_ context.Context, rules *ruleset.Ruleset) error {
	var at []string
	for _, f := range rules.Frontends {
		at = append(at, f.Address.String())
	}
	text := time.Since(r.started).String() + " " + strings.Join(at, " ")
	if r.fail > 0 {
		r.fail--
		r.log = append(r.log, text+" fails")
		return errors.New("no")
	}
	r.log = append(r.log, text)
	return nil
}

// run runs a Syncer in a bubble of time of its own while the test goes on in steps.
func run(t *testing.T, change func(*Config), steps func(*source, *recorder, *Syncer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, r := newSource(), &recorder{started: time.Now()}
		config := Config{Source: s, Backend: r, Node: "n1", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
		if change != nil {
			change(&config)
		}
		syncer := New(config)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- syncer.Run(ctx) }()
		steps(s, r, syncer)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(r.log, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(r.log, "\n"), strings.Join(want, "\n"))
	}
	r.log = nil
}

func TestChangesAreSynced(t *testing.T) {
	var reports []Report
	run(t, func(c *Config) { c.After = func(_ context.Context, r Report) { reports = append(reports, r) } }, func(s *source, r *recorder, y *Syncer) {
		if y.Ready() == nil || !y.LastSync().IsZero() {
			t.Error("ready before the first sync")
		}
		s.set("b", "10.0.0.2")
		r.expect(t, "0s 10.0.0.2")
		if err := y.Ready(); err != nil || y.LastSync().IsZero() {
			t.Errorf("after a sync: %v", err)
		}
		s.set("a", "10.0.0.1", "c", "10.0.0.3")
		r.expect(t, "0s 10.0.0.1 10.0.0.2 10.0.0.3")
		s.set("b", "10.0.0.9")
		r.expect(t, "0s 10.0.0.1 10.0.0.9 10.0.0.3")
		s.set("a", "")
		r.expect(t, "0s 10.0.0.9 10.0.0.3")
		last := reports[len(reports)-1]
		if len(last.Gone) != 1 || len(last.Added) != 0 || last.Gone[0].Service != "ns/a:" {
			t.Errorf("the last report: %+v", last)
		}
		s.all = true
		s.signal()
		r.expect(t, "0s 10.0.0.9 10.0.0.3")
	})
}

func TestRetry(t *testing.T) {
	failed := 0
	run(t, func(c *Config) { c.Failed = func(error) { failed++ } }, func(s *source, r *recorder, y *Syncer) {
		r.fail = 3
		s.set("a", "10.0.0.1")
		r.expect(t, "0s 10.0.0.1 fails")
		if y.Ready() == nil {
			t.Error("ready after a failure")
		}
		time.Sleep(time.Second)
		r.expect(t, "100ms 10.0.0.1 fails", "300ms 10.0.0.1 fails", "700ms 10.0.0.1")
		if err := y.Ready(); err != nil || failed != 3 {
			t.Errorf("after success: %v, with %d failures", err, failed)
		}
		r.fail = 1
		s.set("b", "10.0.0.2")
		r.expect(t, "1s 10.0.0.1 10.0.0.2 fails")
		time.Sleep(time.Second) // the pause is short again
		r.expect(t, "1.1s 10.0.0.1 10.0.0.2")
	})
}

func TestMinInterval(t *testing.T) {
	run(t, func(c *Config) { c.MinInterval = 10 * time.Second }, func(s *source, r *recorder, _ *Syncer) {
		s.set("a", "10.0.0.1")
		r.expect(t, "0s 10.0.0.1")
		s.set("b", "10.0.0.2")
		r.expect(t)
		time.Sleep(5 * time.Second)
		s.set("c", "10.0.0.3")
		time.Sleep(6 * time.Second)
		r.expect(t, "10s 10.0.0.1 10.0.0.2 10.0.0.3")
	})
}

func TestFullInterval(t *testing.T) {
	run(t, func(c *Config) { c.FullInterval = time.Minute }, func(s *source, r *recorder, _ *Syncer) {
		s.set("a", "10.0.0.1")
		r.expect(t, "0s 10.0.0.1")
		time.Sleep(2*time.Minute + time.Second)
		r.expect(t, "forget", "1m0s 10.0.0.1", "forget", "2m0s 10.0.0.1")
	})
}

func TestTriggersAreReportedOnce(t *testing.T) {
	var triggers []time.Time
	run(t, func(c *Config) {
		c.After = func(_ context.Context, r Report) { triggers = append(triggers, r.Triggers...) }
	}, func(s *source, r *recorder, _ *Syncer) {
		slice := func(at string) *discoveryv1.EndpointSlice {
			x := &discoveryv1.EndpointSlice{}
			x.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
			return x
		}
		for _, at := range []string{"2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z", "2026-01-01T00:00:01.5Z", "nonsense"} {
			s.slices["ns/a"] = []*discoveryv1.EndpointSlice{slice(at)}
			s.set("a", "10.0.0.1")
			synctest.Wait()
		}
		if len(triggers) != 1 || triggers[0].Nanosecond() != 5e8 {
			t.Errorf("got %v", triggers)
		}
	})
}
