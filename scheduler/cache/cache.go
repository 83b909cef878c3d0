// Package cache is the scheduler's picture of the cluster: nodes, the Pods on
// them, and the Pods it has just placed that the API has not confirmed yet
// (assumed). Informer handlers and the scheduling cycle write it; Update
// brings a Snapshot up to date at the cost of what changed. It starts no
// goroutines; all methods are safe for concurrent use.
package cache

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// Cache of nodes and Pods. Use New.
type Cache struct {
	mu    sync.Mutex // guards all below
	nodes map[string]*framework.NodeInfo
	pods  map[types.UID]placed
	// dirty nodes differ from the last snapshot; relist says that the set of
	// nodes, or their order, does.
	dirty  map[string]struct{}
	relist bool
}

// placed is a Pod and where it counts.
type placed struct {
	info    *framework.PodInfo
	node    string
	assumed bool
}

// New makes an empty cache.
func New() *Cache {
	return &Cache{nodes: map[string]*framework.NodeInfo{}, pods: map[types.UID]placed{}, dirty: map[string]struct{}{}}
}

// SetNode adds or replaces a node.
func (c *Cache) SetNode(node *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.node(node.Name)
	if info.Node == nil || zone(info.Node) != zone(node) {
		c.relist = true
	}
	info.SetNode(node)
}

// RemoveNode removes it; Pods still known on it stay counted until they go.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, ok := c.nodes[name]
	if !ok {
		return
	}
	c.relist = true
	c.dirty[name] = struct{}{}
	info.SetNode(nil)
	c.dropEmpty(name)
}

// SetPod adds or replaces a Pod that has a node; it confirms an assumed one.
func (c *Cache) SetPod(pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(pod.UID)
	c.place(framework.NewPodInfo(pod), pod.Spec.NodeName, false)
}

// RemovePod forgets a Pod; unknown ones are fine.
func (c *Cache) RemovePod(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(uid)
}

// Assume counts the Pod on node before the API says so. It fails when the Pod
// is there already.
func (c *Cache) Assume(info *framework.PodInfo, node string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pods[info.Pod.UID]; ok {
		return fmt.Errorf("assume pod %s/%s on %s: it is on %s already", info.Pod.Namespace, info.Pod.Name, node, p.node)
	}
	c.place(info, node, true)
	return nil
}

// Forget undoes Assume, unless the API has confirmed it meanwhile.
func (c *Cache) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[uid].assumed {
		c.remove(uid)
	}
}

// Has reports whether the Pod counts on a node, assumed or confirmed.
func (c *Cache) Has(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pods[uid]
	return ok
}

// Len returns how many nodes and Pods there are, and how many of the Pods are
// assumed.
func (c *Cache) Len() (nodes, pods, assumed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.Node != nil {
			nodes++
		}
	}
	for _, p := range c.pods {
		if p.assumed {
			assumed++
		}
	}
	return nodes, len(c.pods), assumed
}

// Update brings s up to date: only nodes that changed since the last Update
// of this cache are copied, so there is one Snapshot per cache.
func (c *Cache) Update(s *framework.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.dirty) == 0 && !c.relist {
		return
	}
	if s.ByName == nil {
		s.ByName = map[string]*framework.NodeInfo{}
		c.relist = true
	}
	reclassify := c.relist
	for name := range c.dirty {
		info, ok := c.nodes[name]
		old := s.ByName[name]
		if !ok || info.Node == nil {
			s.Reindex(old, nil)
			delete(s.ByName, name)
			continue
		}
		fresh := info.Clone()
		s.Reindex(old, fresh)
		if old != nil && !c.relist {
			reclassify = reclassify || len(old.WithAffinity)+len(fresh.WithAffinity) > 0
			*old = *fresh // keeps the place in s.Nodes
			continue
		}
		s.ByName[name] = fresh
	}
	clear(c.dirty)
	if c.relist {
		s.Nodes = ordered(s.ByName)
		c.relist = false
	}
	if reclassify {
		s.Classify()
	}
}

func (c *Cache) node(name string) *framework.NodeInfo {
	info, ok := c.nodes[name]
	if !ok {
		info = &framework.NodeInfo{}
		c.nodes[name] = info
	}
	c.dirty[name] = struct{}{}
	return info
}

func (c *Cache) place(info *framework.PodInfo, node string, assumed bool) {
	c.node(node).AddPod(info)
	c.pods[info.Pod.UID] = placed{info: info, node: node, assumed: assumed}
}

func (c *Cache) remove(uid types.UID) {
	p, ok := c.pods[uid]
	if !ok {
		return
	}
	delete(c.pods, uid)
	c.node(p.node).RemovePod(uid)
	c.dropEmpty(p.node)
}

// dropEmpty forgets a node that has neither an object nor Pods.
func (c *Cache) dropEmpty(name string) {
	if info := c.nodes[name]; info != nil && info.Node == nil && len(info.Pods) == 0 {
		delete(c.nodes, name)
	}
}

// ordered lists the nodes by name, taking one from each zone in turn, so that
// a search that stops early has looked at all zones.
func ordered(nodes map[string]*framework.NodeInfo) []*framework.NodeInfo {
	zones := map[string][]*framework.NodeInfo{}
	for _, n := range nodes {
		zones[zone(n.Node)] = append(zones[zone(n.Node)], n)
	}
	names := make([]string, 0, len(zones))
	for name, list := range zones {
		names = append(names, name)
		slices.SortFunc(list, func(a, b *framework.NodeInfo) int { return cmp.Compare(a.Node.Name, b.Node.Name) })
	}
	slices.Sort(names)
	all := make([]*framework.NodeInfo, 0, len(nodes))
	for i := 0; len(all) < len(nodes); i++ {
		for _, name := range names {
			if i < len(zones[name]) {
				all = append(all, zones[name][i])
			}
		}
	}
	return all
}

func zone(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "/" + node.Labels[corev1.LabelTopologyZone]
}
