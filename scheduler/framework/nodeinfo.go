package framework

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeInfo is a node and the Pods on it, with their sums. The scheduler's
// cache owns changing ones; those in a Snapshot are immutable.
type NodeInfo struct {
	// Node is nil for a node that is gone while Pods on it are still known.
	Node *corev1.Node
	// Pods on the node, assumed ones included.
	Pods []*PodInfo
	// WithAffinity and WithRequiredAntiAffinity are subsets of Pods.
	WithAffinity, WithRequiredAntiAffinity []*PodInfo
	// Requested and NonZeroRequested are sums over Pods.
	Requested, NonZeroRequested Resource
	// Allocatable is what the node offers to Pods.
	Allocatable Resource
	// ImageBytes is the size of each image on the node, by every name it has.
	ImageBytes map[string]int64
}

// SetNode takes over the node object (nil when it is gone).
func (n *NodeInfo) SetNode(node *corev1.Node) {
	n.Node = node
	n.Allocatable, n.ImageBytes = Resource{}, nil
	if node == nil {
		return
	}
	n.Allocatable = NewResource(node.Status.Allocatable)
	n.ImageBytes = make(map[string]int64, len(node.Status.Images))
	for _, image := range node.Status.Images {
		for _, name := range image.Names {
			n.ImageBytes[name] = image.SizeBytes
		}
	}
}

// AddPod counts the Pod in.
func (n *NodeInfo) AddPod(pod *PodInfo) {
	n.Pods = append(n.Pods, pod)
	if pod.HasAffinity {
		n.WithAffinity = append(n.WithAffinity, pod)
	}
	if pod.HasRequiredAntiAffinity {
		n.WithRequiredAntiAffinity = append(n.WithRequiredAntiAffinity, pod)
	}
	n.Requested.add(&pod.Requests, 1)
	n.NonZeroRequested.add(&pod.NonZero, 1)
}

// RemovePod counts the Pod with this UID out; false when it is not there.
func (n *NodeInfo) RemovePod(uid types.UID) bool {
	i := slices.IndexFunc(n.Pods, func(p *PodInfo) bool { return p.Pod.UID == uid })
	if i < 0 {
		return false
	}
	pod := n.Pods[i]
	n.Pods = slices.Delete(n.Pods, i, i+1)
	same := func(p *PodInfo) bool { return p == pod }
	n.WithAffinity = slices.DeleteFunc(n.WithAffinity, same)
	n.WithRequiredAntiAffinity = slices.DeleteFunc(n.WithRequiredAntiAffinity, same)
	n.Requested.add(&pod.Requests, -1)
	n.NonZeroRequested.add(&pod.NonZero, -1)
	return true
}

// Clone copies the lists and sums; Pods and the node object are shared.
func (n *NodeInfo) Clone() *NodeInfo {
	dup := *n
	dup.Pods = slices.Clone(n.Pods)
	dup.WithAffinity = slices.Clone(n.WithAffinity)
	dup.WithRequiredAntiAffinity = slices.Clone(n.WithRequiredAntiAffinity)
	dup.Requested = n.Requested.clone()
	dup.NonZeroRequested = n.NonZeroRequested.clone()
	return &dup
}

// Name is the node's name, "" when the node object is gone.
func (n *NodeInfo) Name() string {
	if n.Node == nil {
		return ""
	}
	return n.Node.Name
}
