// Package slicing decides how the endpoints of a Service are spread over
// EndpointSlices: which slices to create, update and delete so that every
// endpoint is in exactly one, with as few writes and as few slices as that
// allows. It is pure, and starts no goroutines; the endpointslice and
// endpointslicemirroring controllers call it, Apply writes what it decided.
package slicing

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// MaxEndpoints is how many endpoints a slice holds by default (upstream
// --max-endpoints-per-slice; --mirroring-max-endpoints-per-subset is 1000).
const MaxEndpoints = 100

// Group is the endpoints that share an address type and ports.
type Group struct {
	AddressType discoveryv1.AddressType
	Ports       []discoveryv1.EndpointPort
	Endpoints   []discoveryv1.Endpoint
}

// Wanted is what the slices of one Service should hold.
type Wanted struct {
	// Meta has the namespace, generateName, labels, owner and annotations that
	// every slice gets. Its annotations are applied to slices written for other
	// reasons too; a missing one of Owned is removed then.
	Meta metav1.ObjectMeta
	// TriggerTime is the value of the trigger-time annotation; "" removes it.
	TriggerTime string
	Groups      []Group
	// Max is the number of endpoints in a slice; 0 means MaxEndpoints.
	Max int
	// Placeholders are the address types that keep one empty slice when they
	// have no endpoints, so that consumers see the Service is being handled.
	Placeholders []discoveryv1.AddressType
}

// Change is the writes that bring the slices to what is wanted.
type Change struct {
	Create, Update, Delete []*discoveryv1.EndpointSlice
}

// Diff compares existing slices with what is wanted. Existing slices are not
// changed; updates are copies.
func Diff(existing []*discoveryv1.EndpointSlice, wanted Wanted) Change {
	if wanted.Max == 0 {
		wanted.Max = MaxEndpoints
	}
	var change Change
	groups := wanted.Groups
	for _, family := range wanted.Placeholders {
		if !slices.ContainsFunc(groups, func(g Group) bool { return g.AddressType == family && len(g.Endpoints) > 0 }) {
			groups = append(groups, Group{AddressType: family})
		}
	}
	taken := map[*discoveryv1.EndpointSlice]bool{}
	for _, g := range groups {
		var same []*discoveryv1.EndpointSlice
		for _, s := range existing {
			if !taken[s] && s.DeletionTimestamp == nil && s.AddressType == g.AddressType && samePorts(s.Ports, g.Ports) {
				taken[s] = true
				same = append(same, s)
			}
		}
		wanted.fill(&change, same, g)
	}
	for _, s := range existing {
		if !taken[s] && s.DeletionTimestamp == nil {
			change.Delete = append(change.Delete, s)
		}
	}
	return change
}

// fill spreads one group over the slices that have its ports and new ones.
func (w *Wanted) fill(change *Change, same []*discoveryv1.EndpointSlice, g Group) {
	missing := map[string]discoveryv1.Endpoint{}
	var order []string
	for _, e := range g.Endpoints {
		key := identity(&e)
		if _, twice := missing[key]; !twice {
			order = append(order, key)
		}
		missing[key] = e
	}
	empty := len(order) == 0
	holds := make([][]discoveryv1.Endpoint, len(same))
	dirty := make([]bool, len(same))
	for i, s := range same {
		holds[i], dirty[i] = keep(s, missing, w.Max)
		dirty[i] = dirty[i] || !w.metaEqual(s)
	}
	var rest []discoveryv1.Endpoint
	for _, key := range order {
		if e, still := missing[key]; still {
			rest = append(rest, e)
		}
	}
	rest = topUp(holds, dirty, rest, w.Max)
	for len(rest) >= w.Max {
		change.Create = append(change.Create, w.slice(g, rest[:w.Max]))
		rest = rest[w.Max:]
	}
	if len(rest) > 0 {
		if i := roomFor(holds, len(rest), w.Max); i >= 0 {
			holds[i] = append(slices.Clone(holds[i]), rest...)
			dirty[i] = true
		} else {
			change.Create = append(change.Create, w.slice(g, rest))
		}
	}
	kept := false
	for i, s := range same {
		if len(holds[i]) == 0 && (!empty || kept) {
			change.Delete = append(change.Delete, s)
			continue
		}
		kept = true
		if dirty[i] {
			change.Update = append(change.Update, w.rewrite(s, holds[i]))
		}
	}
	if empty && !kept && slices.Contains(w.Placeholders, g.AddressType) {
		change.Create = append(change.Create, w.slice(g, nil))
	}
}

// keep returns the slice's endpoints that are still wanted, as they should be
// now, and whether that differs from what it has. Kept ones leave missing.
func keep(s *discoveryv1.EndpointSlice, missing map[string]discoveryv1.Endpoint, limit int) (held []discoveryv1.Endpoint, dirty bool) {
	for i := range s.Endpoints {
		key := identity(&s.Endpoints[i])
		want, still := missing[key]
		if !still || len(held) == limit {
			dirty = true
			continue
		}
		delete(missing, key)
		if !equality.Semantic.DeepEqual(s.Endpoints[i], want) {
			dirty = true
		}
		held = append(held, want)
	}
	return held, dirty
}

// topUp puts endpoints in slices that are written anyway; it returns the rest.
func topUp(holds [][]discoveryv1.Endpoint, dirty []bool, rest []discoveryv1.Endpoint, limit int) []discoveryv1.Endpoint {
	for i := range holds {
		if dirty[i] {
			n := max(min(limit-len(holds[i]), len(rest)), 0)
			holds[i] = append(holds[i], rest[:n]...)
			rest = rest[n:]
		}
	}
	return rest
}

// roomFor returns the fullest slice that still takes n more, -1 if none does.
func roomFor(holds [][]discoveryv1.Endpoint, n, limit int) int {
	best := -1
	for i := range holds {
		if len(holds[i])+n <= limit && (best < 0 || len(holds[i]) > len(holds[best])) {
			best = i
		}
	}
	return best
}

// slice makes a new slice.
func (w *Wanted) slice(g Group, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  *w.Meta.DeepCopy(),
		AddressType: g.AddressType,
		Ports:       slices.Clone(g.Ports),
		Endpoints:   slices.Clone(endpoints),
	}
	if s.Endpoints == nil {
		s.Endpoints = []discoveryv1.Endpoint{}
	}
	w.trigger(s)
	return s
}

// rewrite makes the new state of an existing slice.
func (w *Wanted) rewrite(s *discoveryv1.EndpointSlice, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s = s.DeepCopy()
	s.Endpoints = endpoints
	if s.Endpoints == nil {
		s.Endpoints = []discoveryv1.Endpoint{}
	}
	s.Labels = maps.Clone(w.Meta.Labels)
	s.OwnerReferences = slices.Clone(w.Meta.OwnerReferences)
	for k, v := range w.Meta.Annotations {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, k, v)
	}
	w.trigger(s)
	return s
}

func (w *Wanted) trigger(s *discoveryv1.EndpointSlice) {
	if w.TriggerTime != "" {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, corev1.EndpointsLastChangeTriggerTime, w.TriggerTime)
		return
	}
	delete(s.Annotations, corev1.EndpointsLastChangeTriggerTime)
}

// metaEqual reports whether the slice's labels, owner and annotations are right.
func (w *Wanted) metaEqual(s *discoveryv1.EndpointSlice) bool {
	if !equality.Semantic.DeepEqual(s.Labels, w.Meta.Labels) || !equality.Semantic.DeepEqual(s.OwnerReferences, w.Meta.OwnerReferences) {
		return false
	}
	for k, v := range w.Meta.Annotations {
		if s.Annotations[k] != v {
			return false
		}
	}
	return true
}

// identity is what makes two endpoints the same one: addresses and target.
func identity(e *discoveryv1.Endpoint) string {
	key := strings.Join(e.Addresses, ",") + "|" + ptr.Deref(e.Hostname, "")
	if e.TargetRef != nil {
		key += "|" + e.TargetRef.Kind + "/" + e.TargetRef.Namespace + "/" + e.TargetRef.Name + "/" + string(e.TargetRef.UID)
	}
	return key
}

// samePorts compares ports in any order.
func samePorts(a, b []discoveryv1.EndpointPort) bool { return PortsKey(a) == PortsKey(b) }

// PortsKey is a text that is equal for equal sets of ports, to group by.
func PortsKey(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, len(ports))
	for i, p := range ports {
		text, err := json.Marshal([]any{p.Name, p.Port, p.Protocol, p.AppProtocol})
		if err != nil { // strings and numbers always encode
			text = nil
		}
		keys[i] = string(text)
	}
	slices.Sort(keys)
	return strings.Join(keys, ";")
}

// SortEndpoints orders endpoints by target and address, so that equal input
// makes equal slices.
func SortEndpoints(endpoints []discoveryv1.Endpoint) {
	slices.SortStableFunc(endpoints, func(a, b discoveryv1.Endpoint) int { return cmp.Compare(identity(&a), identity(&b)) })
}
