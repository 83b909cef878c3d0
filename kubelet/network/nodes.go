//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/internal/netmark"
)

// peer is what is known of another node.
type peer struct {
	ranges []netip.Prefix
	via    []netip.Addr // its internal addresses
}

// Run keeps the bridge, the routes to other nodes and the rules as the Nodes
// say, until ctx ends. What it set up stays: running Pods need it while the
// kubelet is away.
func (n *Network) Run(ctx context.Context) error {
	if len(n.config.PodCIDRs) > 0 {
		if err := n.useRanges(n.config.PodCIDRs); err != nil {
			return err
		}
	}
	if n.config.Client == nil {
		<-ctx.Done()
		return nil
	}
	factory := informers.NewSharedInformerFactory(n.config.Client, 0)
	informer := factory.Core().V1().Nodes().Informer()
	if err := informer.SetTransform(stripNode); err != nil {
		return fmt.Errorf("set up node informer: %w", err)
	}
	dirty := make(chan struct{}, 1)
	wake := func() {
		select {
		case dirty <- struct{}{}:
		default:
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(any, any) { wake() },
		DeleteFunc: func(any) { wake() },
	})
	if err != nil {
		return fmt.Errorf("set up node informer: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil // ctx ended
	}
	n.follow(ctx, dirty, func() []*corev1.Node {
		var nodes []*corev1.Node
		for _, obj := range informer.GetStore().List() {
			if node, ok := obj.(*corev1.Node); ok {
				nodes = append(nodes, node)
			}
		}
		return nodes
	})
	return nil
}

// follow converges on every wake-up, and again with back-off while that fails
// (a route via a node that is not yet reachable).
func (n *Network) follow(ctx context.Context, dirty <-chan struct{}, list func() []*corev1.Node) {
	retry := newBackoff()
	defer retry.stop()
	for {
		if err := n.converge(list()); err != nil {
			n.config.Log.Warn("could not set up routes to all nodes; will retry", "err", err)
			retry.arm()
		} else {
			retry.reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-dirty:
		case <-retry.fires():
		}
	}
}

// converge applies a snapshot of all Nodes.
func (n *Network) converge(nodes []*corev1.Node) error {
	peers := map[string]peer{}
	for _, node := range nodes {
		if node.Name != n.config.NodeName {
			peers[node.Name] = peer{ranges: podRanges(node), via: internalAddrs(node)}
			continue
		}
		if len(n.config.PodCIDRs) == 0 {
			if err := n.useRanges(podRanges(node)); err != nil {
				return err
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = peers
	if len(n.ranges) == 0 {
		return nil
	}
	return errors.Join(n.syncRoutes(peers), n.syncRules())
}

// syncRoutes makes the routes with our protocol number those to the peers'
// ranges. Called with mu held.
func (n *Network) syncRoutes(peers map[string]peer) error {
	want := map[netip.Prefix]netip.Addr{}
	for _, p := range peers {
		for _, r := range p.ranges {
			if via, ok := p.address(r.Addr().Is6()); ok {
				want[r] = via
			}
		}
	}
	have, err := n.ownRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for dst, route := range have {
		if via, ok := netip.AddrFromSlice(route.Gw); ok && want[dst] == via.Unmap() {
			delete(want, dst)
			continue
		}
		if _, changed := want[dst]; changed {
			continue // replaced below
		}
		if err := n.links.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("delete route to %s: %w", dst, err))
		}
	}
	for dst, via := range want {
		route := &netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice(), Protocol: netmark.RouteProtocol}
		if err := n.links.RouteReplace(route); err != nil {
			errs = append(errs, fmt.Errorf("add route to %s via %s: %w", dst, via, err))
			continue
		}
		n.config.Log.Info("route to node added", "range", dst, "via", via)
	}
	return errors.Join(errs...)
}

func (n *Network) ownRoutes() (map[netip.Prefix]netlink.Route, error) {
	out := map[netip.Prefix]netlink.Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.links.RouteListFiltered(family, &netlink.Route{Protocol: netmark.RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if dst, ok := prefixOf(r.Dst); ok {
				out[dst] = r
			}
		}
	}
	return out, nil
}

func (p *peer) address(six bool) (netip.Addr, bool) {
	i := slices.IndexFunc(p.via, func(a netip.Addr) bool { return a.Is6() == six })
	if i < 0 {
		return netip.Addr{}, false
	}
	return p.via[i], true
}

// podRanges are the node's Pod CIDRs; malformed ones are left out, as the API
// server does not accept them.
func podRanges(node *corev1.Node) []netip.Prefix {
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 && node.Spec.PodCIDR != "" {
		texts = []string{node.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func internalAddrs(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

// stripNode keeps what this package reads, so that a large cluster's node
// list costs little.
func stripNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR, PodCIDRs: node.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: node.Status.Addresses},
	}, nil
}
