package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// bindTimeout bounds one binding, so that a hanging API server cannot keep a
// Pod assumed for ever.
const bindTimeout = 60 * time.Second

// bind is the only place that binds. When ctx ends (we lost the lease or shut
// down) a binding that was sent still completes or times out.
func (s *Scheduler) bind(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, node string, started time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bindTimeout)
	defer cancel()
	pod := p.Pod
	err := s.sendBinding(ctx, runner, state, pod, node)
	if err == nil {
		s.Queue.Done(pod.UID)
		s.Logger.Info("pod scheduled", "pod", pod.Namespace+"/"+pod.Name, "node", node, "took", time.Since(started))
		s.Observe(pod.Spec.SchedulerName, "scheduled", time.Since(started))
		s.ObserveBound(p.Attempts, time.Since(p.Since))
		s.event(pod, corev1.EventTypeNormal, "Scheduled", "Binding", fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node))
		return
	}
	runner.Unreserve(ctx, state, pod, node)
	s.Cache.Forget(pod.UID)
	s.Observe(pod.Spec.SchedulerName, "error", time.Since(started))
	freed := framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete, Label: "BindFailed"}
	if apierrors.IsNotFound(err) { // deleted meanwhile
		s.Queue.Done(pod.UID)
		s.Queue.Notify(freed, pod, nil)
		return
	}
	report := s.fail(p, fmt.Errorf("bind to %s: %w", node, err))
	// What was assumed there is free again.
	s.Queue.Notify(freed, pod, nil)
	report(ctx)
}

func (s *Scheduler) sendBinding(ctx context.Context, runner *framework.Runner, state *framework.CycleState, pod *corev1.Pod, node string) error {
	if status := runner.PreBind(ctx, state, pod, node); !status.IsSuccess() {
		return fmt.Errorf("%s: %s", status.Plugin(), status.Message())
	}
	return s.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

// report tells the user: the PodScheduled condition and an event. nominated
// is the node that preemption makes room on, "" for none any more, nil for no
// change.
func (s *Scheduler) report(ctx context.Context, pod *corev1.Pod, nominated *string, reason, message string) {
	if s.Latest != nil {
		latest := s.Latest(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
		if latest == nil || latest.UID != pod.UID || latest.Spec.NodeName != "" {
			return
		}
		pod = latest
	}
	s.event(pod, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", message)
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: pod.Generation, LastTransitionTime: metav1.Now(),
	}
	renominated := nominated != nil && *nominated != pod.Status.NominatedNodeName
	for _, old := range pod.Status.Conditions {
		if old.Type != corev1.PodScheduled {
			continue
		}
		if old.Status == condition.Status && old.Reason == reason && old.Message == message && !renominated {
			return
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
	}
	status := map[string]any{"conditions": []corev1.PodCondition{condition}}
	if renominated {
		status["nominatedNodeName"] = nil // as a patch: remove it
		if *nominated != "" {
			status["nominatedNodeName"] = *nominated
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err == nil {
		_, err = s.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		s.Logger.Error("write pod condition", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

func (s *Scheduler) event(pod *corev1.Pod, kind, reason, action, message string) {
	if recorder := s.Events[pod.Spec.SchedulerName]; recorder != nil {
		recorder.Eventf(pod, nil, kind, reason, action, "%s", message)
	}
}
