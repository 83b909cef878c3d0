package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// desired is on how many nodes a pod should run.
func (v *view) desired() int {
	n := 0
	for _, run := range v.run {
		if run {
			n++
		}
	}
	return n
}

// limits resolves maxSurge and maxUnavailable, both rounded up, to numbers of
// nodes. Both zero would never move: then one may be unavailable.
func (v *view) limits() (surge, unavailable int) {
	ru := v.ds.Spec.UpdateStrategy.RollingUpdate
	if v.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || ru == nil {
		return 0, 1
	}
	resolve := func(value *intstr.IntOrString) int {
		if value == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(value, v.desired(), true)
		if err != nil {
			return 0 // refused by validation
		}
		return n
	}
	surge, unavailable = resolve(ru.MaxSurge), resolve(ru.MaxUnavailable)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// update returns what the rolling update does next: with a surge, nodes that
// get a second pod; without, old pods to delete – unavailable ones at once,
// available ones as far as maxUnavailable allows.
func (v *view) update() (create []string, remove []*corev1.Pod) {
	surge, unavailable := v.limits()
	down, surging := 0, 0
	var broken, spare []*corev1.Pod
	var next []string
	for _, n := range v.nodes {
		if !v.run[n.Name] {
			continue
		}
		var old, present *corev1.Pod
		up := false
		for _, pod := range v.byNode[n.Name] {
			if ok, wait := v.available(pod); ok && pod.DeletionTimestamp == nil {
				up = true
			} else if wait > 0 {
				v.soon(wait)
			}
			switch {
			case podcontrol.Ended(pod):
			case v.updated(pod):
				present = pod
			default:
				old = pod
			}
		}
		if !up {
			down++
		}
		switch {
		case old == nil || old.DeletionTimestamp != nil:
		case present != nil:
			surging++
		case !up:
			broken, next = append(broken, old), append(next, n.Name)
		default:
			spare, next = append(spare, old), append(next, n.Name)
		}
	}
	if surge > 0 {
		return next[:max(min(surge-surging, len(next)), 0)], nil
	}
	return nil, append(broken, spare[:max(min(unavailable-down, len(spare)), 0)]...)
}

// status counts.
func (v *view) status() appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{
		ObservedGeneration: v.ds.Generation, CollisionCount: v.ds.Status.CollisionCount, Conditions: v.ds.Status.Conditions,
	}
	for _, n := range v.nodes {
		on := v.byNode[n.Name]
		if !v.run[n.Name] {
			if len(on) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(on) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		ready, available, updated := false, false, false
		for _, pod := range on {
			if pod.DeletionTimestamp == nil && podcontrol.Ready(pod) {
				ready = true
				ok, wait := v.available(pod)
				available = available || ok
				if wait > 0 {
					v.soon(wait)
				}
			}
			updated = updated || v.updated(pod)
		}
		s.NumberReady += count(ready)
		s.NumberAvailable += count(available)
		s.UpdatedNumberScheduled += count(updated)
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}

func count(yes bool) int32 {
	if yes {
		return 1
	}
	return 0
}

// liveRevisions are the names of revisions that pods are of.
func (v *view) liveRevisions() map[string]bool {
	live := map[string]bool{v.ds.Name + "-" + v.hash: true}
	for _, on := range v.byNode {
		for _, pod := range on {
			live[v.ds.Name+"-"+pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
		}
	}
	return live
}
