package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// status counts the pods as they were seen, by readiness and revision.
func (p *plan) status() appsv1.StatefulSetStatus {
	s := appsv1.StatefulSetStatus{
		ObservedGeneration: p.set.Generation, CollisionCount: p.set.Status.CollisionCount, Conditions: p.set.Status.Conditions,
		CurrentRevision: p.current.Name, UpdateRevision: p.update.Name,
	}
	for _, pod := range p.pods {
		if pod.Status.Phase == "" {
			continue
		}
		s.Replicas++
		if pod.Status.Phase == corev1.PodRunning && podcontrol.Ready(pod) {
			s.ReadyReplicas++
			if p.available(pod) {
				s.AvailableReplicas++
			}
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(pod) == p.current.Name {
			s.CurrentReplicas++
		}
		if revisionOf(pod) == p.update.Name {
			s.UpdatedReplicas++
		}
	}
	// The rollout is complete: what was new is what is current.
	if p.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == s.Replicas && s.ReadyReplicas == s.Replicas && int(s.Replicas) == len(p.slots) {
		s.CurrentRevision, s.CurrentReplicas = s.UpdateRevision, s.UpdatedReplicas
	}
	return s
}

// liveRevisions are the names of revisions that are in use.
func (p *plan) liveRevisions() map[string]bool {
	live := map[string]bool{p.current.Name: true, p.update.Name: true}
	for _, pod := range p.pods {
		live[revisionOf(pod)] = true
	}
	return live
}
