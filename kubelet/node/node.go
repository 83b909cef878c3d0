// Package node keeps the node's place in the cluster: its credentials
// (bootstrap.go, join.go, certificate.go), its Node object (register.go,
// status.go, machine.go) and its Lease (lease.go). app/ starts its parts;
// lifecycle reads the Node object from it. Goroutines: those of each part's
// Run and of the informer.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/internal/kubeclient"
)

// Pressure is what the node runs short of.
type Pressure struct {
	Memory, Disk, PIDs bool
}

// Config of a Node.
type Config struct {
	// Name of the node; required.
	Name string
	// Client reaches the API; required.
	Client kubernetes.Interface
	// Machine tells what the node is made of; required.
	Machine *Machine
	// Labels and Taints are given to a Node that is new.
	Labels map[string]string
	Taints []corev1.Taint
	// Register: create the Node object; otherwise somebody else does.
	Register bool
	// Unschedulable: a new Node takes no Pods at first.
	Unschedulable bool
	// IPs are the node's addresses, primary first; required.
	IPs []netip.Addr
	// MaxPods is the most Pods it runs.
	MaxPods int
	// Reserved is kept from Pods: system, kubelet and eviction thresholds.
	Reserved corev1.ResourceList
	// ServerPort is where the kubelet's own API listens.
	ServerPort int
	// Pressure, NotReady and Images are asked for each report. NotReady
	// returns why the node cannot run Pods, nil if it can.
	Pressure func() Pressure
	NotReady func() error
	Images   func(context.Context) ([]corev1.ContainerImage, error)
	// Every is how often the node looks at itself, Report how often it reports
	// without a change.
	Every, Report time.Duration
	Clock         clock.WithTicker
	Logger        *slog.Logger
}

// Node registers the node and keeps its status.
type Node struct {
	cfg      Config
	local    func() (*corev1.Node, error)
	informer cache.SharedIndexInformer
	// registered is set once the object is there.
	registered atomic.Bool
	changed    chan struct{}

	// last is the status as last written; only Run uses it.
	last     *corev1.Node
	reported time.Time
	started  time.Time
}

// New makes a Node; nothing happens before Run.
func New(cfg Config) (*Node, error) {
	factory := kubeclient.Informers(cfg.Client, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", cfg.Name).String()
	}))
	n := &Node{cfg: cfg, informer: factory.Core().V1().Nodes().Informer(), changed: make(chan struct{}, 1), started: cfg.Clock.Now()}
	n.local = sync.OnceValues(func() (*corev1.Node, error) { return n.initial(nil), nil })
	_, err := n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		// Deleted by somebody: it registers anew.
		DeleteFunc: func(any) {
			n.registered.Store(false)
			n.Changed()
		},
	})
	if err != nil {
		return nil, fmt.Errorf("follow own node: %w", err)
	}
	return n, nil
}

// Object is the node's object as last known; read-only. Until the API has
// told, it is what would be registered, without a UID: Pods from files may have
// to run before there is an API server.
func (n *Node) Object() (*corev1.Node, error) {
	obj, found, err := n.informer.GetStore().GetByKey(n.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("look up own node: %w", err)
	}
	if !found {
		return n.local()
	}
	node, ok := obj.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("own node is a %T", obj)
	}
	return node, nil
}

// Ready is nil once the node is registered and its object known.
func (n *Node) Ready() error {
	if !n.registered.Load() || len(n.informer.GetStore().ListKeys()) == 0 {
		return errors.New("node is not registered yet")
	}
	return nil
}

// Changed makes the node look at itself at once.
func (n *Node) Changed() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Run registers the node and reports its status until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.informer.RunWithContext(ctx)
	}()
	ticker := n.cfg.Clock.NewTicker(n.cfg.Every)
	defer ticker.Stop()
	retry := n.cfg.Clock.NewTimer(0)
	defer retry.Stop()
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			<-done
			return nil
		case <-ticker.C():
		case <-n.changed:
		case <-retry.C():
		}
		if err := n.sync(ctx); err != nil && ctx.Err() == nil {
			// 200 ms doubling to 7 s, as upstream's registration.
			wait = min(max(2*wait, 200*time.Millisecond), 7*time.Second)
			n.cfg.Logger.Warn("reporting node", "node", n.cfg.Name, "error", err)
			retry.Reset(wait)
			continue
		}
		wait = 0
		if n.cfg.NotReady() != nil {
			retry.Reset(unreadyInterval)
		}
	}
}

// unreadyInterval is how soon a node that is not ready looks again: its Pods
// wait for it.
const unreadyInterval = 500 * time.Millisecond

func (n *Node) sync(ctx context.Context) error {
	if !n.registered.Load() {
		if err := n.register(ctx); err != nil {
			return err
		}
		n.registered.Store(true)
	}
	return n.report(ctx)
}
