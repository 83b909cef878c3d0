package podcontrol

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// nodeIndex is the name of the index made by IndexByNode.
const nodeIndex = "skeg-node"

// IndexByNode adds an index of pods by their node. Asking twice is harmless;
// it must be before the informer starts.
func IndexByNode(pods cache.SharedIndexInformer) error {
	if _, there := pods.GetIndexer().GetIndexers()[nodeIndex]; there {
		return nil
	}
	err := pods.AddIndexers(cache.Indexers{nodeIndex: func(object any) ([]string, error) {
		if pod, ok := object.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}, nil
		}
		return nil, nil
	}})
	if err != nil {
		return fmt.Errorf("index pods by node: %w", err)
	}
	return nil
}

// OnNode returns the pods bound to the node. The informer needs IndexByNode.
func OnNode(pods cache.SharedIndexInformer, node string) ([]*corev1.Pod, error) {
	found, err := pods.GetIndexer().ByIndex(nodeIndex, node)
	if err != nil {
		return nil, fmt.Errorf("list pods of node: %w", err)
	}
	all := make([]*corev1.Pod, 0, len(found))
	for _, f := range found {
		if pod, ok := f.(*corev1.Pod); ok {
			all = append(all, pod)
		}
	}
	return all, nil
}
