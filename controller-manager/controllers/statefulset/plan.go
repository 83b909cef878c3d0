package statefulset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/history"
	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// plan is one look at a set and its pods.
type plan struct {
	set             *appsv1.StatefulSet
	current, update *appsv1.ControllerRevision
	now             time.Time
	// pods are all, by rising ordinal; slots those within spec.replicas (nil
	// where there is none), extra the others, highest ordinal first.
	pods, slots, extra []*corev1.Pod
	// recheck is when to look again without an event; 0 for not.
	recheck time.Duration
}

// steps are what one look does.
type steps struct {
	create, remove, repair []*corev1.Pod
}

func newPlan(set *appsv1.StatefulSet, current, update *appsv1.ControllerRevision, pods []*corev1.Pod, now time.Time) *plan {
	p := &plan{set: set, current: current, update: update, now: now, slots: make([]*corev1.Pod, ptr.Deref(set.Spec.Replicas, 1))}
	for _, pod := range pods {
		at := ordinal(set, pod) - first(set)
		switch {
		case ordinal(set, pod) < 0:
			continue
		case at >= 0 && at < len(p.slots):
			p.slots[at] = pod
		default:
			p.extra = append(p.extra, pod)
		}
		p.pods = append(p.pods, pod)
	}
	byOrdinal := func(a, b *corev1.Pod) int { return cmp.Compare(ordinal(set, a), ordinal(set, b)) }
	slices.SortFunc(p.pods, byOrdinal)
	slices.SortFunc(p.extra, func(a, b *corev1.Pod) int { return byOrdinal(b, a) })
	return p
}

func (p *plan) condemned(pod *corev1.Pod) bool {
	return slices.Contains(p.extra, pod)
}

// healthy reports whether a pod counts for order: running, ready, not going.
func healthy(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podcontrol.Ready(pod) && pod.DeletionTimestamp == nil
}

// available is healthy for minReadySeconds; it notes when to look again.
func (p *plan) available(pod *corev1.Pod) bool {
	if !healthy(pod) {
		return false
	}
	ok, wait := podcontrol.Available(pod, time.Duration(p.set.Spec.MinReadySeconds)*time.Second, p.now)
	if wait > 0 && (p.recheck == 0 || wait < p.recheck) {
		p.recheck = wait
	}
	return ok
}

// steps decides. With the policy OrderedReady every pod waits for those before
// it, on the way up and, in reverse, on the way down.
func (p *plan) steps() (steps, error) {
	var s steps
	ordered := p.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	for i, pod := range p.slots {
		wait, err := p.fill(&s, i, pod, ordered)
		if err != nil || (wait && ordered) {
			return s, err
		}
	}
	unhealthy := p.firstUnhealthy()
	for _, pod := range p.extra {
		if ordered && (pod.DeletionTimestamp != nil || (!healthy(pod) && pod != unhealthy)) {
			return s, nil
		}
		if pod.DeletionTimestamp == nil {
			s.remove = append(s.remove, pod)
		}
		if ordered {
			return s, nil
		}
	}
	if p.set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
		p.roll(&s)
	}
	return s, nil
}

// fill brings one slot a step further; wait says that the next one must wait.
func (p *plan) fill(s *steps, i int, pod *corev1.Pod, ordered bool) (wait bool, err error) {
	switch {
	case pod == nil:
		made, err := p.make(first(p.set) + i)
		if err != nil {
			return true, err
		}
		s.create = append(s.create, made)
		return true, nil
	case podcontrol.Ended(pod):
		if pod.DeletionTimestamp == nil {
			s.remove = append(s.remove, pod)
		}
		return true, nil
	case pod.DeletionTimestamp != nil:
		return true, nil
	}
	if !identityRight(p.set, pod) {
		s.repair = append(s.repair, pod)
	}
	return ordered && !p.available(pod), nil
}

func identityRight(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	return !label(set, pod.DeepCopy())
}

// make builds the pod of an ordinal, of the revision it should have now: below
// the partition, or while the first rollout is not complete, the current one.
func (p *plan) make(number int) (*corev1.Pod, error) {
	revision := p.update
	partition := partition(p.set)
	switch {
	case p.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
	case partition == nil && number < first(p.set)+int(p.set.Status.CurrentReplicas):
		revision = p.current
	case partition != nil && number < first(p.set)+int(*partition):
		revision = p.current
	}
	template, err := history.Template(revision)
	if err != nil {
		return nil, err
	}
	return newPod(p.set, template, revision.Name, number), nil
}

func partition(set *appsv1.StatefulSet) *int32 {
	if set.Spec.UpdateStrategy.RollingUpdate == nil {
		return nil
	}
	return set.Spec.UpdateStrategy.RollingUpdate.Partition
}

// firstUnhealthy is the pod with the lowest ordinal that is not healthy.
func (p *plan) firstUnhealthy() *corev1.Pod {
	for _, pod := range p.pods {
		if !healthy(pod) {
			return pod
		}
	}
	return nil
}

// roll replaces pods of other revisions, highest ordinal first, down to the
// partition, with at most maxUnavailable pods out at a time.
func (p *plan) roll(s *steps) {
	budget := p.maxUnavailable()
	for _, pod := range p.slots {
		if pod == nil || !p.available(pod) {
			budget--
		}
	}
	lowest := int(ptr.Deref(partition(p.set), 0))
	for i := len(p.slots) - 1; i >= lowest; i-- {
		pod := p.slots[i]
		if pod == nil || pod.DeletionTimestamp != nil || slices.Contains(s.remove, pod) {
			continue
		}
		stale := revisionOf(pod) != p.update.Name
		switch {
		case stale && !p.available(pod):
			// It is out already: replacing it costs nothing.
			s.remove = append(s.remove, pod)
		case stale && budget > 0:
			s.remove = append(s.remove, pod)
			budget--
		case stale:
			return
		case !p.available(pod) && budget <= 0:
			return // wait for the one that was replaced
		}
	}
}

func (p *plan) maxUnavailable() int {
	ru := p.set.Spec.UpdateStrategy.RollingUpdate
	if ru == nil || ru.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(ru.MaxUnavailable, len(p.slots), true)
	if err != nil {
		return 1 // refused by validation
	}
	return max(n, 1)
}

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }
