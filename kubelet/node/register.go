package node

import (
	"context"
	"fmt"
	"maps"
	"runtime"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// register creates the Node, or takes over the one that is there.
func (n *Node) register(ctx context.Context) error {
	nodes := n.cfg.Client.CoreV1().Nodes()
	if n.cfg.Register {
		created, err := nodes.Create(ctx, n.initial(n.images(ctx)), metav1.CreateOptions{})
		if err == nil {
			n.cfg.Logger.Info("node registered", "node", n.cfg.Name)
			n.last, n.reported = created, n.cfg.Clock.Now()
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create node: %w", err)
		}
	}
	existing, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read own node: %w", err)
	}
	updated := existing.DeepCopy()
	if updated.Labels == nil {
		updated.Labels = map[string]string{}
	}
	maps.Copy(updated.Labels, n.ownLabels())
	if !maps.Equal(updated.Labels, existing.Labels) {
		if existing, err = nodes.Update(ctx, updated, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update labels of own node: %w", err)
		}
	}
	n.last = existing
	n.cfg.Logger.Info("node was registered already", "node", n.cfg.Name)
	return nil
}

// ownLabels are those the kubelet answers for (well-known labels).
func (n *Node) ownLabels() map[string]string {
	return map[string]string{
		corev1.LabelHostname:   n.cfg.Name,
		corev1.LabelOSStable:   runtime.GOOS,
		corev1.LabelArchStable: runtime.GOARCH,
		// Removed from the API's promises, but dashboards still select by them.
		"beta.kubernetes.io/os":   runtime.GOOS,
		"beta.kubernetes.io/arch": runtime.GOARCH,
	}
}

// initial is the Node as first created, status included, so that the
// scheduler can use it at once.
func (n *Node) initial(images []corev1.ContainerImage) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: n.ownLabels()},
		Spec:       corev1.NodeSpec{Taints: n.cfg.Taints, Unschedulable: n.cfg.Unschedulable},
	}
	maps.Copy(node.Labels, n.cfg.Labels)
	node.Status = n.status(images, &node.Status, true)
	return node
}
