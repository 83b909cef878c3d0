package daemonset

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// view is one look at a set, its pods and the nodes.
type view struct {
	ds   *appsv1.DaemonSet
	hash string
	now  time.Time
	// nodes in name order; run and stay say on which a pod should be, and on
	// which one that is there may stay.
	nodes     []*corev1.Node
	run, stay map[string]bool
	// byNode has the pods by node, oldest first; lost those of unknown nodes.
	byNode map[string][]*corev1.Pod
	lost   []*corev1.Pod
	// recheck is when to look again without an event, 0 for not.
	recheck time.Duration
}

func newView(ds *appsv1.DaemonSet, nodes []*corev1.Node, pods []*corev1.Pod, hash string, now time.Time) *view {
	v := &view{ds: ds, hash: hash, now: now, nodes: slices.Clone(nodes), run: map[string]bool{}, stay: map[string]bool{}, byNode: map[string][]*corev1.Pod{}}
	slices.SortFunc(v.nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	sample := &corev1.Pod{Spec: *podTemplate(ds, hash).Spec.DeepCopy()}
	known := map[string]bool{}
	for _, n := range v.nodes {
		known[n.Name] = true
		v.run[n.Name], v.stay[n.Name] = fits(sample, n)
	}
	for _, pod := range pods {
		if node := target(pod); known[node] {
			v.byNode[node] = append(v.byNode[node], pod)
		} else if pod.Spec.NodeName == "" {
			v.lost = append(v.lost, pod) // waits for a node that is gone
		}
	}
	for _, on := range v.byNode {
		slices.SortFunc(on, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	return v
}

// fits reports whether a pod should run on the node, and whether one that does may stay.
func fits(pod *corev1.Pod, node *corev1.Node) (run, stay bool) {
	if pod.Spec.NodeName != "" && pod.Spec.NodeName != node.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false, false
	}
	run, stay = true, true
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerated(pod.Spec.Tolerations, t) {
			continue
		}
		run = false
		stay = stay && t.Effect != corev1.TaintEffectNoExecute
	}
	return run, stay
}

func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(klog.Background(), taint, true) })
}

// tolerations that every daemon pod has (API reference, DaemonSet).
func tolerations(hostNetwork bool) []corev1.Toleration {
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	all := []corev1.Toleration{
		exists(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
	}
	if hostNetwork {
		all = append(all, exists(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule))
	}
	return all
}

// podTemplate is the set's template as its pods get it.
func podTemplate(ds *appsv1.DaemonSet, hash string) *corev1.PodTemplateSpec {
	t := ds.Spec.Template.DeepCopy()
	for _, add := range tolerations(t.Spec.HostNetwork) {
		if !slices.ContainsFunc(t.Spec.Tolerations, func(has corev1.Toleration) bool { return has.MatchToleration(&add) }) {
			t.Spec.Tolerations = append(t.Spec.Tolerations, add)
		}
	}
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	if hash != "" {
		t.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	}
	if g, ok := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; ok {
		t.Labels["pod-template-generation"] = g
	}
	return t
}

// pinTo makes the scheduler put the pod on the node.
func pinTo(pod *corev1.Pod, node string) {
	term := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{
		Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
	}}}
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &corev1.Affinity{}
	}
	if pod.Spec.Affinity.NodeAffinity == nil {
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	na := pod.Spec.Affinity.NodeAffinity
	if na.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		na.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
	}
	required := na.RequiredDuringSchedulingIgnoredDuringExecution
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = []corev1.NodeSelectorTerm{term}
		return
	}
	for i := range required.NodeSelectorTerms {
		required.NodeSelectorTerms[i].MatchFields = term.MatchFields
	}
}

// target is the node a daemon pod is on or pinned to.
func target(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range term.MatchFields {
				if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
					return f.Values[0]
				}
			}
		}
	}
	return ""
}

// place returns the nodes that need a pod and the pods that should not be.
func (v *view) place() (create []string, remove []*corev1.Pod) {
	remove = append(remove, v.lost...)
	for _, n := range v.nodes {
		on := v.byNode[n.Name]
		switch {
		case len(on) == 0 && v.run[n.Name]:
			create = append(create, n.Name)
		case !v.stay[n.Name]:
			remove = append(remove, on...)
		default:
			remove = append(remove, v.surplus(on)...)
		}
	}
	return create, slices.DeleteFunc(remove, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// surplus returns the pods of one node that have ended or are one too many.
func (v *view) surplus(on []*corev1.Pod) (remove []*corev1.Pod) {
	var running []*corev1.Pod
	for _, pod := range on {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed && v.now.Sub(pod.CreationTimestamp.Time) < failedPause:
			v.recheck = failedPause // not in a tight loop
		case podcontrol.Ended(pod):
			remove = append(remove, pod)
		default:
			running = append(running, pod)
		}
	}
	if len(running) <= 1 {
		return remove
	}
	// In a surging update one old pod stays until the new one is available.
	if surge, _ := v.limits(); surge > 0 {
		var old, present []*corev1.Pod
		for _, pod := range running {
			if v.updated(pod) {
				present = append(present, pod)
			} else {
				old = append(old, pod)
			}
		}
		if len(present) > 0 {
			remove = append(remove, present[1:]...)
			if ok, wait := v.available(present[0]); ok {
				return append(remove, old...)
			} else if wait > 0 {
				v.soon(wait)
			}
		}
		if len(old) > 0 {
			return append(remove, old[1:]...)
		}
		return remove
	}
	return append(remove, running[1:]...)
}

func (v *view) soon(wait time.Duration) {
	if v.recheck == 0 || wait < v.recheck {
		v.recheck = wait
	}
}

func (v *view) available(pod *corev1.Pod) (bool, time.Duration) {
	return podcontrol.Available(pod, time.Duration(v.ds.Spec.MinReadySeconds)*time.Second, v.now)
}

// updated reports whether the pod is of the present template.
func (v *view) updated(pod *corev1.Pod) bool {
	return v.hash != "" && pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == v.hash
}
