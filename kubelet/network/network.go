//go:build linux

// Package network connects Pods: a network namespace of its own for each,
// pinned on disk, a veth pair to the node's bridge, addresses out of the
// node's Pod range, routes to the ranges of the other nodes, masquerading
// towards the outside and host ports. The kubelet's lifecycle calls Attach and
// Detach; app runs Run, which watches Nodes. Everything is done over netlink
// in the network namespace the kubelet lives in (or the one in Config).
// Goroutines: the informer's, while Run runs.
//
// Every Pod has its address alone (/32, /128) and the gateway as its only
// neighbour, so that traffic between two Pods of one node is routed, not
// bridged: translation and policy see both directions of it without
// br_netfilter (and where that is on, the ports' hairpin mode makes up for
// what it bridges).
//
// On disk, below Config.StateDir (the definition of the layout):
//
//	netns/<uid>          bind mount of the Pod's namespace
//	network/<uid>.json   record: addresses, host link, host ports
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/internal/nft"
)

// ErrNoRange is Ready's and Attach's answer while the node has no Pod range
// (spec.podCIDR), usually for a moment after it registered.
var ErrNoRange = errors.New("node has no pod CIDR yet")

// Config is what a Network needs.
type Config struct {
	// StateDir holds namespaces and records; required.
	StateDir string
	// NodeName is the node's own; required with Client.
	NodeName string
	// Client watches Nodes. Without it PodCIDRs is required and there are no
	// routes to other nodes (a standalone kubelet).
	Client kubernetes.Interface
	// PodCIDRs overrides the Node object's.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are ranges besides the nodes' Pod ranges to which Pods
	// speak with their own address; may be empty.
	ClusterCIDRs []netip.Prefix
	// Bridge is the link's name; "" is "skeg0".
	Bridge string
	// MTU of Pod links; 0 takes that of the link with the default route.
	MTU int
	// HostNetNS is the path of the node's network namespace; "" is the
	// process's own.
	HostNetNS string
	// Log must not be nil.
	Log *slog.Logger
}

// Attachment is a Pod's place in the network.
type Attachment struct {
	NetNS string
	IPs   []string // primary first
}

// Network owns the Pod network of one node. Its methods are safe for
// concurrent use and may be repeated.
type Network struct {
	config Config
	rules  *nft.Client

	mu      sync.Mutex // guards everything below and serialises changes of the host
	links   *netlink.Handle
	ranges  []netip.Prefix
	records map[types.UID]*record
	peers   map[string]peer // other nodes by name
	next    map[netip.Prefix]netip.Addr
}

// New opens the state directory and the node's namespace. It changes nothing
// on the host; with Config.PodCIDRs the network is usable at once.
func New(config Config) (*Network, error) {
	if config.Bridge == "" {
		config.Bridge = "skeg0"
	}
	if config.StateDir == "" || config.Log == nil {
		return nil, errors.New("network: StateDir and Log are required")
	}
	if config.Client == nil && len(config.PodCIDRs) == 0 {
		return nil, errors.New("network: a Client or PodCIDRs is required")
	}
	n := &Network{
		config:  config,
		rules:   nft.NewClient(config.HostNetNS),
		peers:   map[string]peer{},
		records: map[types.UID]*record{},
		next:    map[netip.Prefix]netip.Addr{},
	}
	if err := n.openHandle(); err != nil {
		return nil, err
	}
	if err := n.loadRecords(); err != nil {
		n.links.Close()
		return nil, err
	}
	return n, nil
}

func (n *Network) openHandle() error {
	err := n.inHost(func() error {
		var err error
		n.links, err = netlink.NewHandle()
		return err
	})
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return nil
}

// inHost runs fn in the node's network namespace.
func (n *Network) inHost(fn func() error) error { return netns.Do(n.config.HostNetNS, fn) }

// Ready is nil once Pods can be attached.
func (n *Network) Ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ranges) == 0 {
		return ErrNoRange
	}
	return nil
}

// Ranges are the node's Pod ranges; empty until known.
func (n *Network) Ranges() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ranges)
}

// useRanges brings the bridge up for the given ranges.
func (n *Network) useRanges(ranges []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.ranges, ranges) || len(ranges) == 0 {
		return nil
	}
	if err := n.ensureBridge(ranges); err != nil {
		return err
	}
	n.ranges = slices.Clone(ranges)
	if err := n.acceptForwarding(); err != nil {
		// The Pod network works without it unless a firewall is in the way.
		n.config.Log.Warn("could not open firewall for pods", "err", err)
	}
	n.config.Log.Info("pod network is up", "bridge", n.config.Bridge, "ranges", ranges)
	return n.syncRules()
}

// Attach gives the Pod its namespace, addresses and host ports, or finds what
// it has. The Pod must not use the host's network. ErrNoRange.
func (n *Network) Attach(_ context.Context, pod *corev1.Pod) (Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ranges) == 0 {
		return Attachment{}, ErrNoRange
	}
	if !filepath.IsLocal(string(pod.UID)) || filepath.Base(string(pod.UID)) != string(pod.UID) {
		return Attachment{}, fmt.Errorf("pod UID %q cannot name a file", pod.UID)
	}
	r, err := n.lease(pod)
	if err != nil {
		return Attachment{}, err
	}
	path := n.namespacePath(pod.UID)
	if err := netns.Create(path); err != nil {
		return Attachment{}, err
	}
	if err := n.connect(r, path); err != nil {
		return Attachment{}, fmt.Errorf("connect pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if len(r.HostPorts) > 0 {
		if err := n.syncRules(); err != nil {
			return Attachment{}, fmt.Errorf("open host ports: %w", err)
		}
	}
	return r.attachment(path), nil
}

// Lookup returns what Attach gave the Pod; false if it is not attached.
func (n *Network) Lookup(uid types.UID) (Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.records[uid]
	if !ok {
		return Attachment{}, false
	}
	return r.attachment(n.namespacePath(uid)), true
}

// Detach removes all traces of the Pod, also after a partial Attach; its
// addresses become free. A Pod that is not there is a success.
func (n *Network) Detach(_ context.Context, uid types.UID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.records[uid]
	if r != nil && len(r.HostPorts) > 0 {
		delete(n.records, uid)
		if err := n.syncRules(); err != nil {
			n.records[uid] = r
			return fmt.Errorf("close host ports: %w", err)
		}
		n.records[uid] = r
	}
	if err := n.removeLink(hostLinkName(uid)); err != nil {
		return err
	}
	if err := netns.Remove(n.namespacePath(uid)); err != nil {
		return err
	}
	return n.release(uid)
}

// Sweep detaches all Pods that keep does not name: leftovers of Pods that were
// deleted while the kubelet was away.
func (n *Network) Sweep(ctx context.Context, keep []types.UID) error {
	uids, err := n.known()
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range uids {
		if slices.Contains(keep, uid) {
			continue
		}
		n.config.Log.Info("removing orphaned pod network", "uid", uid)
		errs = append(errs, n.Detach(ctx, uid))
	}
	return errors.Join(errs...)
}

// known lists all Pods with a record or a namespace.
func (n *Network) known() ([]types.UID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var uids []types.UID
	for uid := range n.records {
		uids = append(uids, uid)
	}
	entries, err := os.ReadDir(filepath.Join(n.config.StateDir, "netns"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list pod namespaces: %w", err)
	}
	for _, e := range entries {
		if uid := types.UID(e.Name()); !slices.Contains(uids, uid) {
			uids = append(uids, uid)
		}
	}
	return uids, nil
}

// Cleanup removes everything the package put on the node: all Pods, the
// bridge, routes and rules. For a node that leaves.
func (n *Network) Cleanup(ctx context.Context) error {
	errs := []error{n.Sweep(ctx, nil)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ranges = nil
	errs = append(errs,
		n.syncRoutes(nil),
		n.removeLink(n.config.Bridge),
		n.rules.Delete(nft.IPv4, netmark.PodsTable),
		n.rules.Delete(nft.IPv6, netmark.PodsTable),
		n.withdrawForwarding(),
	)
	return errors.Join(errs...)
}

func (n *Network) namespacePath(uid types.UID) string {
	return filepath.Join(n.config.StateDir, "netns", string(uid))
}
