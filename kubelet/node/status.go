package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"
)

// report writes the status if it changed or is due.
func (n *Node) report(ctx context.Context) error {
	base := n.last
	if known, err := n.Object(); err == nil && known.UID != "" {
		base = known
	}
	images := n.images(ctx)
	due := n.cfg.Clock.Since(n.reported) >= n.cfg.Report
	status := n.status(images, &base.Status, due)
	if !due && equality.Semantic.DeepEqual(status, base.Status) {
		return nil
	}
	if !due {
		// Something changed: then the heartbeats go along.
		status = n.status(images, &base.Status, true)
	}
	patch, err := difference(base.Status, status)
	if err != nil {
		return err
	}
	written, err := n.cfg.Client.CoreV1().Nodes().Patch(ctx, n.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch node status: %w", err)
	}
	n.last, n.reported = written, n.cfg.Clock.Now()
	return nil
}

// difference is a strategic merge patch. Addresses are sent whole: merging
// them by type, as their patch key says, loses one of two InternalIPs.
func difference(from, to corev1.NodeStatus) ([]byte, error) {
	addresses := !equality.Semantic.DeepEqual(from.Addresses, to.Addresses)
	wanted := to.Addresses
	from.Addresses, to.Addresses = nil, nil
	before, err := json.Marshal(corev1.Node{Status: from})
	if err != nil {
		return nil, fmt.Errorf("encode old node status: %w", err)
	}
	after, err := json.Marshal(corev1.Node{Status: to})
	if err != nil {
		return nil, fmt.Errorf("encode new node status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("compare node statuses: %w", err)
	}
	if !addresses {
		return patch, nil
	}
	var fields map[string]map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	list := []any{map[string]string{"$patch": "replace"}}
	for _, address := range wanted {
		list = append(list, address)
	}
	if fields["status"] == nil {
		fields["status"] = map[string]any{}
	}
	fields["status"]["addresses"] = list
	return json.Marshal(fields)
}

// status is the node as it is now; beat renews the heartbeats.
func (n *Node) status(images []corev1.ContainerImage, old *corev1.NodeStatus, beat bool) corev1.NodeStatus {
	status := *old.DeepCopy()
	status.Capacity = n.cfg.Machine.Capacity()
	status.Capacity[corev1.ResourcePods] = *resource.NewQuantity(int64(n.cfg.MaxPods), resource.DecimalSI)
	status.Allocatable = allocatable(status.Capacity, n.cfg.Reserved)
	// Extended resources are their plugins' to write.
	for name, quantity := range old.Capacity {
		if _, ours := status.Capacity[name]; !ours {
			status.Capacity[name] = quantity
			status.Allocatable[name] = old.Allocatable[name]
		}
	}
	status.Addresses = nil
	for _, ip := range n.cfg.IPs {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.cfg.Name})
	status.DaemonEndpoints.KubeletEndpoint.Port = int32(n.cfg.ServerPort)
	status.NodeInfo = n.cfg.Machine.Info()
	status.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: ptr.To(true)}
	status.RuntimeHandlers = []corev1.NodeRuntimeHandler{{
		Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: ptr.To(true), UserNamespaces: ptr.To(false)},
	}}
	if images != nil {
		status.Images = images
	}
	n.setConditions(&status, beat)
	return status
}

// images are those on the node; nil if they cannot be listed.
func (n *Node) images(ctx context.Context) []corev1.ContainerImage {
	images, err := n.cfg.Images(ctx)
	if err != nil {
		n.cfg.Logger.Warn("listing images", "error", err)
		return nil
	}
	return images
}

// allocatable is what is left for Pods.
func allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, quantity := range capacity {
		left := quantity.DeepCopy()
		if keep, ok := reserved[name]; ok {
			left.Sub(keep)
			if left.Sign() < 0 {
				left.Set(0)
			}
		}
		out[name] = left
	}
	return out
}

// setConditions writes the kubelet's conditions; others stay.
func (n *Node) setConditions(status *corev1.NodeStatus, beat bool) {
	pressure := n.cfg.Pressure()
	pressureCondition := func(kind corev1.NodeConditionType, is bool, badReason, bad, goodReason, good string) {
		condition := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: goodReason, Message: good}
		if is {
			condition.Status, condition.Reason, condition.Message = corev1.ConditionTrue, badReason, bad
		}
		n.setCondition(status, condition, beat)
	}
	pressureCondition(corev1.NodeMemoryPressure, pressure.Memory,
		"KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
		"KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	pressureCondition(corev1.NodeDiskPressure, pressure.Disk,
		"KubeletHasDiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	pressureCondition(corev1.NodePIDPressure, pressure.PIDs,
		"KubeletHasInsufficientPID", "kubelet has insufficient PID available",
		"KubeletHasSufficientPID", "kubelet has sufficient PID available")
	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status",
	}
	if err := n.cfg.NotReady(); err != nil && !n.settling(status) {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", err.Error()
	}
	n.setCondition(status, ready, beat)
}

// startGrace is how long a restarted kubelet may take to find its bearings
// before a node that was ready is reported as not ready, which would drive its
// Pods' endpoints away.
const startGrace = 20 * time.Second

func (n *Node) settling(status *corev1.NodeStatus) bool {
	if n.cfg.Clock.Since(n.started) >= startGrace {
		return false
	}
	for i := range status.Conditions {
		if c := &status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (n *Node) setCondition(status *corev1.NodeStatus, condition corev1.NodeCondition, beat bool) {
	now := metav1.NewTime(n.cfg.Clock.Now().Truncate(time.Second))
	condition.LastHeartbeatTime, condition.LastTransitionTime = now, now
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != condition.Type {
			continue
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		} else if beat {
			n.cfg.Logger.Info("node condition changed", "condition", condition.Type, "status", condition.Status, "reason", condition.Reason)
		}
		if !beat {
			condition.LastHeartbeatTime = old.LastHeartbeatTime
		}
		*old = condition
		return
	}
	status.Conditions = append(status.Conditions, condition)
}
