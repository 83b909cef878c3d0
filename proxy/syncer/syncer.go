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
	// After is told of each successful sync: the rules, and how long it took.
	// It runs on the syncer's goroutine.
	After func(ctx context.Context, rules *ruleset.Ruleset, took time.Duration)
	// Failed is told of each failed one.
	Failed func(err error)
}

// Syncer runs the loop. Use New.
type Syncer struct {
	Config
	services map[string]ruleset.Service // by key; owned by Run
	// frontends are those of services, sorted; successive ones share what did
	// not change. Owned by Run.
	frontends []ruleset.Frontend
	done      atomic.Int64 // unix nanoseconds of the last success; 0 is never
	failing   atomic.Pointer[error]
}

// New makes a Syncer.
func New(c Config) *Syncer {
	if c.After == nil {
		c.After = func(context.Context, *ruleset.Ruleset, time.Duration) {}
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	return &Syncer{Config: c, services: map[string]ruleset.Service{}}
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
		}
		changed[key] = s.services[key]
	}
	if len(changed) > 0 {
		s.frontends = ruleset.Splice(s.frontends, changed)
	}
}

func (s *Syncer) build(key string, svc *corev1.Service, node ruleset.Node) {
	s.services[key] = ruleset.Build(svc, s.Source.Slices(key), node)
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
	s.Logger.Debug("rules synced", "frontends", len(rules.Frontends), "took", time.Since(started))
	s.After(ctx, rules, time.Since(started))
	return nil
}
