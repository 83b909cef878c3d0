package bootstrap

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultServiceCIDR names the ServiceCIDR of the configured ranges (upstream's
// name).
const defaultServiceCIDR = "kubernetes"

// reconcileServiceCIDR publishes the configured Service ranges. A range of the
// second family is added; other differences are an operator's to resolve,
// because Services hold addresses of the published ranges.
func (k *KubernetesService) reconcileServiceCIDR(ctx context.Context, log *slog.Logger) error {
	if len(k.ServiceCIDRs) == 0 {
		return nil
	}
	ranges := k.Client.NetworkingV1().ServiceCIDRs()
	existing, err := ranges.Get(ctx, defaultServiceCIDR, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		existing, err = ranges.Create(ctx, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: defaultServiceCIDR}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: k.ServiceCIDRs},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	if len(existing.Spec.CIDRs) == 1 && len(k.ServiceCIDRs) == 2 && existing.Spec.CIDRs[0] == k.ServiceCIDRs[0] {
		changed := existing.DeepCopy()
		changed.Spec.CIDRs = k.ServiceCIDRs
		if existing, err = ranges.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("add range: %w", err)
		}
	}
	ready := metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue,
		Message: "the ranges of --service-cluster-ip-range",
	}
	if !slices.Equal(existing.Spec.CIDRs, k.ServiceCIDRs) {
		log.Warn("the published service ranges are not the configured ones", "published", existing.Spec.CIDRs, "configured", k.ServiceCIDRs)
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "Inconsistent", "--service-cluster-ip-range names other ranges"
	}
	changed := existing.DeepCopy()
	if !existing.DeletionTimestamp.IsZero() || !meta.SetStatusCondition(&changed.Status.Conditions, ready) {
		return nil
	}
	_, err = ranges.UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}
