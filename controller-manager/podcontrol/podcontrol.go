// Package podcontrol makes and deletes pods for the workload controllers, and
// knows the facts they share about a pod: active, ready, available, and which
// one to delete first. Its functions are pure but for Control, which calls the
// API and records events. It starts no goroutines.
package podcontrol

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Owner is a workload object that controls pods.
type Owner interface {
	runtime.Object
	metav1.Object
}

// Control creates, deletes and patches pods and records on the owner what came of it.
type Control struct {
	// Client and Events are required.
	Client kubernetes.Interface
	Events record.EventRecorder
}

// FromTemplate builds a pod of the owner: labels, annotations, finalizers and
// spec of the template, a name to be generated from the owner's.
func FromTemplate(template *corev1.PodTemplateSpec, owner metav1.Object, ref *metav1.OwnerReference) *corev1.Pod {
	template = template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.GetNamespace(),
			GenerateName:    Prefix(owner.GetName()),
			Labels:          template.Labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*ref},
		},
		Spec: template.Spec,
	}
}

// Prefix is the generateName of pods of a controller: its name and a dash,
// without the dash when that is too long to start a pod name.
func Prefix(controller string) string {
	prefix := controller + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) != 0 {
		return controller
	}
	return prefix
}

// Create creates the pod and records SuccessfulCreate or FailedCreate on the
// owner. It returns the error of the API unwrapped in a verb phrase.
func (c Control) Create(ctx context.Context, owner Owner, pod *corev1.Pod) (*corev1.Pod, error) {
	made, err := c.Client.CoreV1().Pods(owner.GetNamespace()).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		// A namespace on its way out refuses everything: not worth an event.
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.Events.Eventf(owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return nil, fmt.Errorf("create pod: %w", err)
	}
	slog.Info("pod created", "pod", made.Namespace+"/"+made.Name, "owner", owner.GetName(), "uid", made.UID)
	c.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", made.Name)
	return made, nil
}

// Delete deletes the pod and records SuccessfulDelete or FailedDelete on the
// owner. A pod that is gone is NotFound, not recorded.
func (c Control) Delete(ctx context.Context, owner Owner, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		return nil
	}
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}}
	if pod.UID == "" {
		options.Preconditions = nil
	}
	if err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, options); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return apierrors.NewNotFound(corev1.Resource("pods"), pod.Name)
		}
		c.Events.Eventf(owner, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	slog.Info("pod deleted", "pod", pod.Namespace+"/"+pod.Name, "owner", owner.GetName(), "uid", pod.UID)
	c.Events.Eventf(owner, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
	return nil
}

// Patch patches the pod; it fits Claim.Patch.
func (c Control) Patch(ctx context.Context, pod *corev1.Pod, kind types.PatchType, patch []byte) error {
	_, err := c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, kind, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("patch pod %s: %w", pod.Name, err)
	}
	return nil
}
