package nodelifecycle

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sighting is what is remembered of one node between two looks. Times are of
// this process's clock: nodes' clocks are not compared with it.
type sighting struct {
	// at is when the node last showed a sign of life.
	at time.Time
	// heartbeat and renewed are the signs seen last.
	heartbeat, renewed time.Time
	// everReady says a Ready condition was posted.
	everReady bool
}

// look updates the sighting with the node's present signs of life.
func (s *sighting) look(node *corev1.Node, lease *coordinationv1.Lease, now time.Time) {
	if ready := condition(node, corev1.NodeReady); ready != nil {
		if !s.everReady || ready.LastHeartbeatTime.After(s.heartbeat) {
			// Our own Unknown is not a sign of life; it leaves the heartbeat as it was.
			s.at, s.heartbeat = now, ready.LastHeartbeatTime.Time
		}
		s.everReady = true
	}
	if lease != nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(s.renewed) {
		s.at, s.renewed = now, lease.Spec.RenewTime.Time
	}
}

// silent reports whether the node has shown no sign of life for too long.
func (s *sighting) silent(c Config, now time.Time) bool {
	grace := c.GracePeriod
	if !s.everReady {
		grace = c.StartupGracePeriod
	}
	return now.After(s.at.Add(grace))
}

// reported are the conditions that a silent node can no longer vouch for.
var reported = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// markUnknown sets those conditions to Unknown and reports whether any changed.
func markUnknown(node *corev1.Node, now time.Time) (changed bool) {
	at := metav1.NewTime(now)
	for _, kind := range reported {
		c := condition(node, kind)
		switch {
		case c == nil:
			node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message:           "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: at,
			})
			changed = true
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = at
			changed = true
		}
	}
	return changed
}

// condition returns the node's condition of the given type, or nil.
func condition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// isReady reports whether the node's Ready condition is true.
func isReady(node *corev1.Node) bool {
	c := condition(node, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionTrue
}
