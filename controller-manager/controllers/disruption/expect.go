package disruption

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// expected returns how many pods there should be and how many of them must
// stay healthy. Without percentages the pods that are there count for
// minAvailable; else the scales of their controllers.
func (c *Controller) expected(ctx context.Context, budget *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (expected, desired int32, err error) {
	switch {
	case budget.Spec.MaxUnavailable != nil:
		expected, err = c.scales(ctx, pods)
		if err != nil {
			return 0, 0, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(budget.Spec.MaxUnavailable, int(expected), true)
		if err != nil {
			return 0, 0, fmt.Errorf("resolve maxUnavailable: %w", err)
		}
		return expected, max(expected-int32(n), 0), nil
	case budget.Spec.MinAvailable != nil && budget.Spec.MinAvailable.Type == intstr.Int:
		return int32(len(pods)), budget.Spec.MinAvailable.IntVal, nil
	case budget.Spec.MinAvailable != nil:
		expected, err = c.scales(ctx, pods)
		if err != nil {
			return 0, 0, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(budget.Spec.MinAvailable, int(expected), true)
		if err != nil {
			return 0, 0, fmt.Errorf("resolve minAvailable: %w", err)
		}
		return expected, int32(n), nil
	}
	return int32(len(pods)), 0, nil
}

// scales sums the sizes of all controllers of the pods. A pod without a
// controller, or with one that has no scale, is an error: then a percentage
// means nothing.
func (c *Controller) scales(ctx context.Context, pods []*corev1.Pod) (total int32, err error) {
	sizes := map[types.UID]int32{}
	for _, pod := range pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			return 0, fmt.Errorf("found no controller ref for pod %q", pod.Name)
		}
		if _, known := sizes[ref.UID]; known {
			continue
		}
		uid, size, err := c.scale(ctx, pod.Namespace, ref)
		if apierrors.IsNotFound(err) {
			continue // the controller is gone, its pods follow
		}
		if err != nil {
			return 0, err
		}
		// Sets of one deployment share its size: it counts once.
		sizes[ref.UID] = 0
		sizes[uid] = size
	}
	for _, n := range sizes {
		total += n
	}
	return total, nil
}

// scale returns the UID and size of the controller that decides about size.
func (c *Controller) scale(ctx context.Context, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	apps := c.informers.Apps().V1()
	switch ref.Kind {
	case "ReplicaSet":
		rs, err := apps.ReplicaSets().Lister().ReplicaSets(namespace).Get(ref.Name)
		if err != nil {
			return "", 0, err
		}
		if owner := metav1.GetControllerOf(rs); owner != nil && owner.Kind == "Deployment" {
			d, err := apps.Deployments().Lister().Deployments(namespace).Get(owner.Name)
			if err != nil {
				return "", 0, err
			}
			return d.UID, ptr.Deref(d.Spec.Replicas, 1), nil
		}
		return rs.UID, ptr.Deref(rs.Spec.Replicas, 1), nil
	case "StatefulSet":
		s, err := apps.StatefulSets().Lister().StatefulSets(namespace).Get(ref.Name)
		if err != nil {
			return "", 0, err
		}
		return s.UID, ptr.Deref(s.Spec.Replicas, 1), nil
	case "ReplicationController":
		rc, err := c.informers.Core().V1().ReplicationControllers().Lister().ReplicationControllers(namespace).Get(ref.Name)
		if err != nil {
			return "", 0, err
		}
		return rc.UID, ptr.Deref(rc.Spec.Replicas, 1), nil
	}
	return c.custom(ctx, namespace, ref)
}

// custom reads the scale subresource of a controller of a kind declared at run time.
func (c *Controller) custom(ctx context.Context, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	groups, err := c.client.Discovery().ServerResourcesForGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, fmt.Errorf("find scale of %s: %w", ref.Kind, err)
	}
	for _, r := range groups.APIResources {
		if r.Kind != ref.Kind || len(r.Name) == 0 {
			continue
		}
		var scale autoscalingv1.Scale
		err := c.client.CoreV1().RESTClient().Get().
			AbsPath("/apis/" + ref.APIVersion + "/namespaces/" + namespace + "/" + r.Name + "/" + ref.Name + "/scale").Do(ctx).Into(&scale)
		if err != nil {
			return "", 0, fmt.Errorf("read scale of %s %s: %w", ref.Kind, ref.Name, err)
		}
		return scale.UID, scale.Spec.Replicas, nil
	}
	return "", 0, fmt.Errorf("%s %s does not implement the scale subresource", ref.Kind, ref.Name)
}
