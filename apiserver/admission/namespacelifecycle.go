package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// NamespaceLifecycle refuses writes into namespaces that are missing, new
// objects in those that are ending, and the deletion of the system's own.
type NamespaceLifecycle struct {
	reader Reader
}

// NewNamespaceLifecycle makes the plugin.
func NewNamespaceLifecycle(reader Reader) *NamespaceLifecycle {
	return &NamespaceLifecycle{reader: reader}
}

// Name is the plugin's name in flags and metrics.
func (*NamespaceLifecycle) Name() string { return "NamespaceLifecycle" }

// immortal namespaces are made by the server and needed by it.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

var namespaces = schema.GroupResource{Resource: "namespaces"}

// Mutate changes nothing; it runs in this phase to answer before any plugin
// spends work on a write that cannot be.
func (p *NamespaceLifecycle) Mutate(ctx context.Context, a *Attributes) error {
	isNamespace := a.Resource.GroupResource() == namespaces
	if a.Operation == Delete && isNamespace && slices.Contains(immortal, a.Name) {
		return Forbidden(a, errors.New("this namespace may not be deleted"))
	}
	if a.Namespace == "" || isNamespace || a.Operation == Delete || isReview(a) {
		return nil
	}
	ns, err := p.namespace(ctx, a.Namespace)
	if err != nil {
		return err
	}
	if a.Operation != Create || ns.Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	refusal := Forbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace),
		Field:   "metadata.namespace",
	})
	return refusal
}

// isReview reports a question about rights, which may be asked about any
// namespace.
func isReview(a *Attributes) bool {
	return a.Resource.GroupResource() == schema.GroupResource{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}
}

// namespace reads the cache first: a namespace is made once and used for long.
func (p *NamespaceLifecycle) namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	obj, err := p.reader.Get(ctx, namespaces, "", name)
	if apierrors.IsNotFound(err) {
		obj, err = p.reader.GetLatest(ctx, namespaces, "", name)
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status, answered as it is
	}
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return nil, fmt.Errorf("read namespace %q: unexpected object %T", name, obj)
	}
	return ns, nil
}
