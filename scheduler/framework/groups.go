package framework

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Group is the Pods in a Snapshot that are alike for everything that compares
// Pods with each other: namespace, labels, affinity, and whether they are being
// deleted. Affinity and spreading match a selector once per Group instead of
// once per Pod, and read how many there are in each domain without counting.
type Group struct {
	// Like is one of the Pods.
	Like *PodInfo
	// Nodes counts them by node name.
	Nodes map[string]int
	// domains counts them by the value of a node label, for the labels that
	// were asked for; kept up to date from then on.
	domains map[string]map[string]int
}

// groups is the index of a Snapshot.
type groups struct {
	byKey       map[string]*Group
	byNamespace map[string]map[*Group]struct{}
	affine      map[*Group]struct{}
	// values counts nodes by label value, for the labels that were asked for;
	// emptied when nodes change.
	values map[string]map[string]int
}

// groupKey is equal for Pods of one Group.
func groupKey(info *PodInfo) string {
	pod := info.Pod
	var b strings.Builder
	b.WriteString(pod.Namespace)
	if pod.DeletionTimestamp != nil {
		b.WriteString("\x00deleted")
	}
	for _, k := range slices.Sorted(maps.Keys(pod.Labels)) {
		b.WriteString("\x00")
		b.WriteString(k)
		b.WriteString("=")
		b.WriteString(pod.Labels[k])
	}
	if a := pod.Spec.Affinity; info.HasAffinity && a != nil {
		b.WriteString("\x00")
		b.WriteString(a.PodAffinity.String())
		b.WriteString(a.PodAntiAffinity.String())
	}
	return b.String()
}

// Reindex brings the groups up to date when a node of the Snapshot changes from
// old to fresh; either may be nil. The caller updates ByName and Nodes.
func (s *Snapshot) Reindex(old, fresh *NodeInfo) {
	same := 0
	if old != nil && fresh != nil && maps.Equal(old.Node.Labels, fresh.Node.Labels) {
		for same < len(old.Pods) && same < len(fresh.Pods) && old.Pods[same] == fresh.Pods[same] {
			same++
		}
	} else {
		s.groups.values = nil
	}
	if old != nil {
		for _, p := range old.Pods[same:] {
			s.groups.count(p, old, -1)
		}
	}
	if fresh != nil {
		for _, p := range fresh.Pods[same:] {
			s.groups.count(p, fresh, 1)
		}
	}
}

func (x *groups) count(p *PodInfo, node *NodeInfo, n int) {
	g := x.byKey[p.group]
	if g == nil {
		g = x.add(p)
	}
	bump(g.Nodes, node.Node.Name, n)
	for label, values := range g.domains {
		if v, ok := node.Node.Labels[label]; ok {
			bump(values, v, n)
		}
	}
	if len(g.Nodes) == 0 {
		delete(x.byKey, p.group)
		delete(x.affine, g)
		if in := x.byNamespace[p.Pod.Namespace]; in != nil {
			delete(in, g)
			if len(in) == 0 {
				delete(x.byNamespace, p.Pod.Namespace)
			}
		}
	}
}

func (x *groups) add(p *PodInfo) *Group {
	if x.byKey == nil {
		x.byKey, x.byNamespace, x.affine = map[string]*Group{}, map[string]map[*Group]struct{}{}, map[*Group]struct{}{}
	}
	g := &Group{Like: p, Nodes: map[string]int{}}
	x.byKey[p.group] = g
	if x.byNamespace[p.Pod.Namespace] == nil {
		x.byNamespace[p.Pod.Namespace] = map[*Group]struct{}{}
	}
	x.byNamespace[p.Pod.Namespace][g] = struct{}{}
	if p.HasAffinity {
		x.affine[g] = struct{}{}
	}
	return g
}

// bump adds n and drops what becomes zero.
func bump(counts map[string]int, key string, n int) {
	if counts[key] += n; counts[key] == 0 {
		delete(counts, key)
	}
}

// Groups are all groups of Pods, in no order.
func (s *Snapshot) Groups() iter.Seq[*Group] { return maps.Values(s.groups.byKey) }

// GroupsIn are those of one namespace.
func (s *Snapshot) GroupsIn(namespace string) iter.Seq[*Group] {
	return maps.Keys(s.groups.byNamespace[namespace])
}

// AffinityGroups are those with inter-pod affinity or anti-affinity terms.
func (s *Snapshot) AffinityGroups() iter.Seq[*Group] { return maps.Keys(s.groups.affine) }

// Values counts the nodes by the value of a label; nodes without it are left
// out. Read only.
func (s *Snapshot) Values(label string) map[string]int {
	if values, ok := s.groups.values[label]; ok {
		return values
	}
	values := map[string]int{}
	for _, n := range s.Nodes {
		if v, ok := n.Node.Labels[label]; ok {
			values[v]++
		}
	}
	if s.groups.values == nil {
		s.groups.values = map[string]map[string]int{}
	}
	s.groups.values[label] = values
	return values
}

// Domains counts the group's Pods by the value of a node label. Read only.
func (s *Snapshot) Domains(g *Group, label string) map[string]int {
	if values, ok := g.domains[label]; ok {
		return values
	}
	values := map[string]int{}
	for name, n := range g.Nodes {
		if node := s.ByName[name]; node != nil {
			if v, ok := node.Node.Labels[label]; ok {
				values[v] += n
			}
		}
	}
	if g.domains == nil {
		g.domains = map[string]map[string]int{}
	}
	g.domains[label] = values
	return values
}

// maxParts is from how many groups on their counts are added up once, instead
// of at every look.
const maxParts = 4

// DomainCount is a number of Pods by the value of a node label, as seen by one
// attempt: the counts of some groups, and what preemption tries on top. The
// zero value is empty.
type DomainCount struct {
	parts []map[string]int // shared with the groups; read only
	own   map[string]int
}

// Include counts what is in values, which must not change during the attempt.
func (d *DomainCount) Include(values map[string]int) {
	if len(values) > 0 {
		d.parts = append(d.parts, values)
	}
}

// Settle prepares for many calls of At, after all Includes.
func (d *DomainCount) Settle() {
	if len(d.parts) < maxParts {
		return
	}
	if d.own == nil {
		d.own = map[string]int{}
	}
	for _, part := range d.parts {
		for v, n := range part {
			d.own[v] += n
		}
	}
	d.parts = nil
}

// At is the number in the domain.
func (d *DomainCount) At(value string) int {
	n := d.own[value]
	for _, part := range d.parts {
		n += part[value]
	}
	return n
}

// Add changes the number in the domain, for this attempt only.
func (d *DomainCount) Add(value string, n int) {
	if d.own == nil {
		d.own = map[string]int{}
	}
	d.own[value] += n
}

// Empty reports that no domain has any.
func (d *DomainCount) Empty() bool {
	for v := range d.own {
		if d.At(v) > 0 {
			return false
		}
	}
	for _, part := range d.parts {
		for v := range part {
			if d.At(v) > 0 {
				return false
			}
		}
	}
	return true
}

// Clone copies what Add may change.
func (d *DomainCount) Clone() *DomainCount {
	return &DomainCount{parts: d.parts, own: maps.Clone(d.own)}
}
