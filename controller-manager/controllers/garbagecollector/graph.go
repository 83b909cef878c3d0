package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/controller-manager/apiresources"
)

// node is one object of the graph. Nodes are values: the graph hands out copies.
type node struct {
	uid             types.UID
	resource        apiresources.Resource
	namespace, name string
	owners          []metav1.OwnerReference
	// deleting says the object has a deletion timestamp; foreground and orphan
	// that it also has the finalizer of that name.
	deleting, foreground, orphan bool
}

// deletingDependents: the object waits for its dependents to go first.
func (n node) deletingDependents() bool { return n.deleting && n.foreground }

// blocks reports whether the object holds up the foreground deletion of owner.
func (n node) blocks(owner types.UID) bool {
	return slices.ContainsFunc(n.owners, func(r metav1.OwnerReference) bool {
		return r.UID == owner && r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
	})
}

// graph holds every object seen and who owns whom, by UID. Safe for concurrent use.
type graph struct {
	mu sync.RWMutex
	// Both guarded by mu. dependents also has owners that were never seen.
	nodes      map[types.UID]node
	dependents map[types.UID]map[types.UID]struct{}
}

func newGraph() *graph {
	return &graph{nodes: map[types.UID]node{}, dependents: map[types.UID]map[types.UID]struct{}{}}
}

// put records an object and returns what must be looked at because of it.
func (g *graph) put(n node) (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, known := g.nodes[n.uid]
	g.nodes[n.uid] = n
	for _, ref := range old.owners {
		if !refersTo(n.owners, ref.UID) {
			g.unlink(ref.UID, n.uid)
		}
	}
	for _, ref := range n.owners {
		if g.dependents[ref.UID] == nil {
			g.dependents[ref.UID] = map[types.UID]struct{}{}
		}
		g.dependents[ref.UID][n.uid] = struct{}{}
	}
	if len(n.owners) > 0 && (!known || !slices.EqualFunc(old.owners, n.owners, sameRef)) {
		look = append(look, n.uid)
	}
	// A reference that was dropped, or no longer blocks, may free its owner.
	for _, ref := range old.owners {
		if g.nodes[ref.UID].deletingDependents() && !n.blocks(ref.UID) {
			look = append(look, ref.UID)
		}
	}
	if n.deleting && (n.orphan && !(old.deleting && old.orphan)) {
		look = append(look, n.uid)
	}
	if n.deletingDependents() && !old.deletingDependents() {
		look = append(look, n.uid)
		for d := range g.dependents[n.uid] {
			look = append(look, d)
		}
	}
	return look
}

// remove forgets an object and returns what must be looked at because of it.
func (g *graph) remove(uid types.UID) (look []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, known := g.nodes[uid]
	if !known {
		return nil
	}
	delete(g.nodes, uid)
	for _, ref := range n.owners {
		g.unlink(ref.UID, uid)
		if g.nodes[ref.UID].deletingDependents() {
			look = append(look, ref.UID)
		}
	}
	for d := range g.dependents[uid] {
		look = append(look, d)
	}
	return look
}

// unlink drops one edge. Caller holds mu.
func (g *graph) unlink(owner, dependent types.UID) {
	delete(g.dependents[owner], dependent)
	if len(g.dependents[owner]) == 0 {
		delete(g.dependents, owner)
	}
}

// get returns an object by UID.
func (g *graph) get(uid types.UID) (node, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	n, ok := g.nodes[uid]
	return n, ok
}

// dependentsOf returns the objects that name uid as an owner.
func (g *graph) dependentsOf(uid types.UID) []node {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var all []node
	for d := range g.dependents[uid] {
		all = append(all, g.nodes[d])
	}
	return all
}

// drop forgets all objects of a resource that is no longer served, without
// consequences for others: the kind may come back.
func (g *graph) drop(resource apiresources.Resource) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for uid, n := range g.nodes {
		if n.resource.GroupVersionResource == resource.GroupVersionResource {
			delete(g.nodes, uid)
			for _, ref := range n.owners {
				g.unlink(ref.UID, uid)
			}
		}
	}
}

func refersTo(refs []metav1.OwnerReference, uid types.UID) bool {
	return slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return r.UID == uid })
}

func sameRef(a, b metav1.OwnerReference) bool {
	blocks := func(r metav1.OwnerReference) bool { return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion }
	return a.UID == b.UID && a.Kind == b.Kind && a.APIVersion == b.APIVersion && a.Name == b.Name && blocks(a) == blocks(b)
}
