package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// ServiceAccount gives every Pod an identity: the name of an account that
// exists, a volume with its token, and its image pull secrets.
type ServiceAccount struct {
	reader Reader
}

// NewServiceAccount makes the plugin.
func NewServiceAccount(reader Reader) *ServiceAccount { return &ServiceAccount{reader: reader} }

// Name is the plugin's name in flags and metrics.
func (*ServiceAccount) Name() string { return "ServiceAccount" }

const (
	defaultAccount = "default"
	// enforceSecrets makes an account's list of secrets binding for its Pods.
	enforceSecrets = "kubernetes.io/enforce-mountable-secrets"
)

var serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}

// Mutate fills a new Pod in. Mirror Pods are copies of what a kubelet already
// runs, and stay as they are.
func (p *ServiceAccount) Mutate(ctx context.Context, a *Attributes) error {
	pod, ok := newPod(a)
	if !ok || isMirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	account, err := p.account(ctx, a, pod.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	if automounts(pod, account) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 && len(account.ImagePullSecrets) > 0 {
		pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), account.ImagePullSecrets...)
	}
	return nil
}

// Validate refuses Pods of accounts that do not exist, and secrets that the
// account may not use.
func (p *ServiceAccount) Validate(ctx context.Context, a *Attributes) error {
	pod, ok := newPod(a)
	if !ok {
		return nil
	}
	if isMirror(pod) {
		return checkMirror(a, pod)
	}
	if pod.Spec.ServiceAccountName == "" {
		return Forbidden(a, fmt.Errorf("no service account specified for pod %s/%s", a.Namespace, pod.Name))
	}
	account, err := p.account(ctx, a, pod.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	if account.Annotations[enforceSecrets] != "true" {
		return nil
	}
	return limitSecrets(a, pod, account)
}

func newPod(a *Attributes) (*corev1.Pod, bool) {
	if a.Operation != Create || !isResource(a, "", "pods", "") {
		return nil, false
	}
	pod, ok := a.Object.(*corev1.Pod)
	return pod, ok
}

func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

func checkMirror(a *Attributes, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return Forbidden(a, errors.New("a mirror pod may not reference service accounts"))
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil {
			return Forbidden(a, errors.New("a mirror pod may not reference secrets"))
		}
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return Forbidden(a, errors.New("a mirror pod may not use ServiceAccountToken volume projections"))
			}
		}
	}
	return nil
}

// account reads a service account. The default one is waited for: a
// controller makes it right after its namespace, and the first Pod may be
// faster.
func (p *ServiceAccount) account(ctx context.Context, a *Attributes, name string) (*corev1.ServiceAccount, error) {
	obj, err := p.reader.Get(ctx, serviceAccounts, a.Namespace, name)
	attempts := 1
	if name == defaultAccount {
		attempts = 10
	}
	for i := 0; apierrors.IsNotFound(err) && i < attempts; i++ {
		if i > 0 {
			if waitErr := pause(ctx, 100*time.Millisecond); waitErr != nil {
				return nil, waitErr
			}
		}
		obj, err = p.reader.GetLatest(ctx, serviceAccounts, a.Namespace, name)
	}
	if err != nil {
		return nil, Forbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, name, err))
	}
	account, ok := obj.(*corev1.ServiceAccount)
	if !ok {
		return nil, fmt.Errorf("read service account %s/%s: unexpected object %T", a.Namespace, name, obj)
	}
	return account, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the default service account: %w", context.Cause(ctx))
	}
}

// automounts asks the Pod first, then the account; both may be silent.
func automounts(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return ptr.Deref(account.AutomountServiceAccountToken, true)
}
