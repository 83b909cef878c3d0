// Package syncer keeps the kernel at what the API says: it takes the dirty
// marks, rebuilds the rules of those Services, and hands the whole to the
// backend, again and again until that succeeds. Run is its one goroutine.
package syncer

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// How long to wait after a failure, doubled each time up to the maximum.
const (
	firstRetry = 100 * time.Millisecond
	maxRetry   = 10 * time.Second
)

// Source is where the objects and marks come from (package watch).
type Source interface {
	Changed() <-chan struct{}
	Take() (dirty map[string]struct{}, all bool)
	Services() []*corev1.Service
	Service(key string) *corev1.Service
	Slices(service string) []*discoveryv1.EndpointSlice
	Zone() string
}

// Config of a Syncer. Source, Backend, Node and Logger are required.
type Config struct {
	Source  Source
	Backend backend.Backend
	Node    string
	Logger  *slog.Logger
	// PodNetworks, NodePortAddresses and ServiceNetworks go into the rules.
	PodNetworks, NodePortAddresses, ServiceNetworks []netip.Prefix
	// MinInterval is the least time between two syncs; 0 is none.
	MinInterval time.Duration
	// FullInterval is how often the kernel is compared whole; 0 is never.
	FullInterval time.Duration
	// After is told of each successful sync. It runs on the syncer's goroutine.
	After func(ctx context.Context, done Report)
	// Failed is told of each failed one.
	Failed func(err error)
}

// Report of a successful sync.
type Report struct {
	Rules *ruleset.Ruleset
	// Gone and Added are the frontends that differ from the last successful
	// sync; a changed one is in both.
	Gone, Added []ruleset.Frontend
	Took        time.Duration
	// Triggers are when what the slices tell of happened, as far as they say.
	Triggers []time.Time
}

// Syncer runs the loop. Use New.
type Syncer struct {
	Config
	services map[string]ruleset.Service // by key; owned by Run
	// frontends are those of services, sorted; successive ones share what did
	// not change. Owned by Run.
	frontends []ruleset.Frontend
	// synced are the frontends in the kernel.
	synced []ruleset.Frontend
	// seen is the last trigger of each Service, triggers those to report.
	seen     map[string]time.Time
	triggers []time.Time
	done     atomic.Int64 // unix nanoseconds of the last success; 0 is never
	failing  atomic.Pointer[error]
}

// New makes a Syncer.
func New(c Config) *Syncer {
	if c.After == nil {
		c.After = func(context.Context, Report) {}
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	return &Syncer{Config: c, services: map[string]ruleset.Service{}, seen: map[string]time.Time{}}
}

// LastSync is when the kernel was last brought up to date; zero is never.
func (s *Syncer) LastSync() time.Time {
	if n := s.done.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Ready is nil once the rules are in the kernel, and while syncs succeed.
func (s *Syncer) Ready() error {
	if err := s.failing.Load(); err != nil {
		return *err
	}
	if s.done.Load() == 0 {
		return errors.New("rules are not in the kernel yet")
	}
	return nil
}

// Run syncs until ctx ends; the rules stay in the kernel.
func (s *Syncer) Run(ctx context.Context) error {
	var full <-chan time.Time
	if s.FullInterval > 0 {
		ticker := time.NewTicker(s.FullInterval)
		defer ticker.Stop()
		full = ticker.C
	}
	var retry <-chan time.Time // not nil while the last sync failed
	pause := firstRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.Source.Changed():
		case <-retry:
		case <-full:
			s.Backend.Forget()
		}
		s.rebuild()
		if err := s.sync(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			s.Logger.Error("sync rules", "backend", s.Backend.Name(), "retry", pause, "error", err)
			s.failing.Store(&err)
			s.Failed(err)
			retry, pause = time.After(pause), min(2*pause, maxRetry)
			continue
		}
		s.failing.Store(nil)
		s.done.Store(time.Now().UnixNano())
		retry, pause = nil, firstRetry
		if s.MinInterval > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(s.MinInterval):
			}
		}
	}
}

// rebuild makes the rules of the marked Services anew.
func (s *Syncer) rebuild() {
	dirty, all := s.Source.Take()
	node := ruleset.Node{Name: s.Node, Zone: s.Source.Zone()}
	if all {
		clear(s.services)
		for _, svc := range s.Source.Services() {
			s.build(svc.Namespace+"/"+svc.Name, svc, node)
		}
		s.frontends, _ = ruleset.Join(s.services)
		return
	}
	changed := make(map[string]ruleset.Service, len(dirty))
	for key := range dirty {
		if svc := s.Source.Service(key); svc != nil {
			s.build(key, svc, node)
		} else {
			delete(s.services, key)
			delete(s.seen, key)
		}
		changed[key] = s.services[key]
	}
	if len(changed) > 0 {
		s.frontends = ruleset.Splice(s.frontends, changed)
	}
}

func (s *Syncer) build(key string, svc *corev1.Service, node ruleset.Node) {
	endpoints := s.Source.Slices(key)
	s.services[key] = ruleset.Build(svc, endpoints, node)
	for _, slice := range endpoints {
		at, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime])
		if err != nil || !at.After(s.seen[key]) { // none, or an old one
			continue
		}
		// What was there before us, or before the Service, waited for neither.
		if s.done.Load() != 0 && !at.Before(svc.CreationTimestamp.Time) {
			s.triggers = append(s.triggers, at)
		}
		s.seen[key] = at
	}
}

func (s *Syncer) sync(ctx context.Context) error {
	started := time.Now()
	rules := &ruleset.Ruleset{
		Frontends: s.frontends, HealthChecks: ruleset.Checks(s.services),
		PodNetworks: s.PodNetworks, NodePortAddresses: s.NodePortAddresses, ServiceNetworks: s.ServiceNetworks,
	}
	if err := s.Backend.Sync(ctx, rules); err != nil {
		return err
	}
	done := Report{Rules: rules, Took: time.Since(started), Triggers: s.triggers}
	done.Gone, done.Added = ruleset.Diff(s.synced, rules.Frontends)
	s.synced, s.triggers = rules.Frontends, nil
	s.Logger.Debug("rules synced", "frontends", len(rules.Frontends), "changed", max(len(done.Gone), len(done.Added)), "took", done.Took)
	s.After(ctx, done)
	return nil
}
