package component

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaderOptions are upstream's --leader-elect flags.
type LeaderOptions struct {
	Enabled       bool
	LeaseDuration time.Duration
	RenewDeadline time.Duration
	RetryPeriod   time.Duration
	// Namespace and Name are those of the Lease.
	Namespace string
	Name      string
	// Lock is the kind of lock object; only "leases" exists any more.
	Lock string
}

// DefaultLeaderOptions returns upstream's defaults (15s, 10s, 2s) for the
// Lease kube-system/name.
func DefaultLeaderOptions(name string) LeaderOptions {
	return LeaderOptions{
		Enabled: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Namespace: "kube-system", Name: name, Lock: resourcelock.LeasesResourceLock,
	}
}

// AddFlags registers the flags.
func (o *LeaderOptions) AddFlags(fs *pflag.FlagSet) {
	InFlagGroup(fs, "Leader election", func(fs *pflag.FlagSet) {
		fs.BoolVar(&o.Enabled, "leader-elect", o.Enabled, "Work only while holding the lease, so that replicas stand by")
		fs.DurationVar(&o.LeaseDuration, "leader-elect-lease-duration", o.LeaseDuration, "How long others wait after the last renewal before they take the lease")
		fs.DurationVar(&o.RenewDeadline, "leader-elect-renew-deadline", o.RenewDeadline, "How long the leader tries to renew before it gives up")
		fs.DurationVar(&o.RetryPeriod, "leader-elect-retry-period", o.RetryPeriod, "Pause between tries to take or renew the lease")
		fs.StringVar(&o.Lock, "leader-elect-resource-lock", o.Lock, `Kind of lock object; only "leases"`)
		fs.StringVar(&o.Name, "leader-elect-resource-name", o.Name, "Name of the Lease")
		fs.StringVar(&o.Namespace, "leader-elect-resource-namespace", o.Namespace, "Namespace of the Lease")
	})
}

// Validate returns every fault, naming flags.
func (o *LeaderOptions) Validate() []error {
	if !o.Enabled {
		return nil
	}
	var errs []error
	if o.RetryPeriod <= 0 {
		errs = append(errs, errors.New("--leader-elect-retry-period: must be positive"))
	}
	if o.RenewDeadline <= time.Duration(float64(o.RetryPeriod)*leaderelection.JitterFactor) {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline: must be more than %.1f times --leader-elect-retry-period", leaderelection.JitterFactor))
	}
	if o.LeaseDuration <= o.RenewDeadline {
		errs = append(errs, errors.New("--leader-elect-lease-duration: must be longer than --leader-elect-renew-deadline"))
	}
	if o.Lock != resourcelock.LeasesResourceLock {
		errs = append(errs, fmt.Errorf(`--leader-elect-resource-lock: %q is not "leases"`, o.Lock))
	}
	if o.Name == "" {
		errs = append(errs, errors.New("--leader-elect-resource-name: required"))
	}
	if o.Namespace == "" {
		errs = append(errs, errors.New("--leader-elect-resource-namespace: required"))
	}
	return errs
}

// LeaderConfig says what to do while leading.
type LeaderConfig struct {
	Options LeaderOptions
	// Client reads and writes the Lease; required when Options.Enabled.
	Client kubernetes.Interface
	// Identity of this process in the Lease; "" makes <hostname>_<uuid>.
	Identity string
	// Parts run while leading, as a Group; required.
	Parts []Part
	// Recorder, when not nil, makes an event of a change of leader.
	Recorder resourcelock.EventRecorder
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// ErrLostLease is returned when the lease could not be renewed in time. The
// process should exit: what it still does in the background is not safe.
var ErrLostLease = errors.New("leader election lost")

// LeaderElection runs parts only while it holds a Lease. On a stop it stops
// the parts first and then releases the lease, so that a standby takes over at
// once and never while this process still works.
type LeaderElection struct {
	config  LeaderConfig
	watcher *leaderelection.HealthzAdaptor
}

// leaderGrace is how far behind its lease a leader may fall before its health
// check fails (upstream's value).
const leaderGrace = 20 * time.Second

// NewLeaderElection returns the Runnable; it contacts nobody yet.
func NewLeaderElection(config LeaderConfig) *LeaderElection {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &LeaderElection{config: config, watcher: leaderelection.NewLeaderHealthzAdaptor(leaderGrace)}
}

// Check is the health check "leaderElection": it fails when the lease is held
// but was not renewed for too long.
func (l *LeaderElection) Check() Check {
	return Check{Name: "leaderElection", Live: true, Probe: func(context.Context) error { return l.watcher.Check(nil) }}
}

// Run competes for the lease, leads, and returns nil when ctx ended,
// ErrLostLease, or the error of the parts.
func (l *LeaderElection) Run(ctx context.Context) error {
	group := &Group{Parts: l.config.Parts, Logger: l.config.Logger}
	if !l.config.Options.Enabled {
		return group.Run(ctx)
	}
	electing, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	term := newTerm(electing)
	elector, err := l.elector(leaderelection.LeaderCallbacks{
		OnStartedLeading: func(context.Context) {
			l.config.Logger.Info("leading", "lease", l.config.Options.Namespace+"/"+l.config.Options.Name)
			defer release() // the parts ended: let somebody else try
			term.lead(group)
		},
		OnStoppedLeading: func() {},
	})
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		elector.Run(electing)
	}()
	select {
	case <-over: // the lease is lost, or the parts ended and it is released
	case <-ctx.Done():
	}
	err = term.end()
	release()
	<-over
	if err == nil && ctx.Err() == nil {
		return ErrLostLease
	}
	return err
}

// term is the time for which this process leads: it begins at most once, and
// cannot begin after it was ended.
type term struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan error // one value when lead returns

	mu    sync.Mutex // guards begun
	begun bool
}

func newTerm(ctx context.Context) *term {
	t := &term{done: make(chan error, 1)}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return t
}

func (t *term) lead(group *Group) {
	t.mu.Lock()
	if t.ctx.Err() != nil {
		t.mu.Unlock()
		return
	}
	t.begun = true
	t.mu.Unlock()
	t.done <- group.Run(t.ctx)
}

// end stops the parts, waits for them and returns their error.
func (t *term) end() error {
	t.mu.Lock()
	t.cancel()
	begun := t.begun
	t.mu.Unlock()
	if !begun {
		return nil
	}
	return <-t.done
}

func (l *LeaderElection) elector(callbacks leaderelection.LeaderCallbacks) (*leaderelection.LeaderElector, error) {
	o := l.config.Options
	identity := l.config.Identity
	if identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name this candidate: %w", err)
		}
		identity = host + "_" + string(uuid.NewUUID())
	}
	lock, err := resourcelock.New(o.Lock, o.Namespace, o.Name, l.config.Client.CoreV1(), l.config.Client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: identity, EventRecorder: l.config.Recorder})
	if err != nil {
		return nil, fmt.Errorf("prepare lease: %w", err)
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: o.Name, WatchDog: l.watcher, ReleaseOnCancel: true, Callbacks: callbacks,
		LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare leader election: %w", err)
	}
	l.watcher.SetLeaderElection(elector)
	return elector, nil
}
