package framework

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
)

// AffinityTerm is a compiled inter-pod (anti-)affinity term.
type AffinityTerm struct {
	// TopologyKey is the node label whose equal values make a domain.
	TopologyKey string
	// Weight of a preferred term, negative for anti-affinity; 0 for a required one.
	Weight     int64
	namespaces sets.Set[string]
	inLabels   labels.Selector // of namespaces
	pods       labels.Selector
}

// NamespaceLabels returns the labels of a namespace, nil when it is not known.
type NamespaceLabels func(namespace string) labels.Set

// Matches reports whether the term is about pod.
func (t *AffinityTerm) Matches(pod *corev1.Pod, of NamespaceLabels) bool {
	if !t.pods.Matches(labels.Set(pod.Labels)) {
		return false
	}
	return t.namespaces.Has(pod.Namespace) || !t.inLabels.Empty() && t.inLabels.Matches(of(pod.Namespace)) || t.allNamespaces()
}

// allNamespaces: an empty (not absent) namespace selector means every namespace.
func (t *AffinityTerm) allNamespaces() bool {
	_, selectable := t.inLabels.Requirements()
	return selectable && t.inLabels.Empty()
}

// AffinityTerms are a Pod's, compiled.
type AffinityTerms struct {
	Required, RequiredAnti, Preferred []AffinityTerm
	// Err is why a term could not be compiled; such a Pod cannot be placed.
	Err error
}

func newAffinityTerms(pod *corev1.Pod) AffinityTerms {
	var t AffinityTerms
	a := pod.Spec.Affinity
	if a == nil {
		return t
	}
	collect := func(list []AffinityTerm, term *corev1.PodAffinityTerm, weight int64) []AffinityTerm {
		compiled, err := compileTerm(pod, term, weight)
		if err != nil {
			t.Err = err
			return list
		}
		return append(list, compiled)
	}
	if a.PodAffinity != nil {
		for i := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			t.Required = collect(t.Required, &a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i], 0)
		}
		for i := range a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			p := &a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i]
			t.Preferred = collect(t.Preferred, &p.PodAffinityTerm, int64(p.Weight))
		}
	}
	if a.PodAntiAffinity != nil {
		for i := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			t.RequiredAnti = collect(t.RequiredAnti, &a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i], 0)
		}
		for i := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			p := &a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i]
			t.Preferred = collect(t.Preferred, &p.PodAffinityTerm, -int64(p.Weight))
		}
	}
	return t
}

func compileTerm(pod *corev1.Pod, term *corev1.PodAffinityTerm, weight int64) (AffinityTerm, error) {
	t := AffinityTerm{TopologyKey: term.TopologyKey, Weight: weight, namespaces: sets.New(term.Namespaces...), inLabels: labels.Nothing()}
	if len(term.Namespaces) == 0 && term.NamespaceSelector == nil {
		t.namespaces.Insert(pod.Namespace)
	}
	var err error
	if t.pods, err = metav1.LabelSelectorAsSelector(term.LabelSelector); err != nil {
		return t, fmt.Errorf("read affinity term's label selector: %w", err)
	}
	if term.NamespaceSelector != nil {
		if t.inLabels, err = metav1.LabelSelectorAsSelector(term.NamespaceSelector); err != nil {
			return t, fmt.Errorf("read affinity term's namespace selector: %w", err)
		}
	}
	if t.pods, err = WithLabelKeys(t.pods, pod, term.MatchLabelKeys, selection.In); err != nil {
		return t, err
	}
	t.pods, err = WithLabelKeys(t.pods, pod, term.MismatchLabelKeys, selection.NotIn)
	return t, err
}

// WithLabelKeys narrows s to Pods with the same (selection.In) or other
// (selection.NotIn) values of the labels keys as pod; labels that pod does not
// have are left out (matchLabelKeys, mismatchLabelKeys; KEP-3243, KEP-3633).
func WithLabelKeys(s labels.Selector, pod *corev1.Pod, keys []string, op selection.Operator) (labels.Selector, error) {
	for _, key := range keys {
		value, ok := pod.Labels[key]
		if !ok {
			continue
		}
		r, err := labels.NewRequirement(key, op, []string{value})
		if err != nil {
			return nil, fmt.Errorf("read label key %q: %w", key, err)
		}
		s = s.Add(*r)
	}
	return s, nil
}
