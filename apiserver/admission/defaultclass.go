package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Annotations that make a class the default one, and the older ways of naming
// a class (API reference, "Well-Known Labels, Annotations and Taints").
const (
	defaultStorageClass     = "storageclass.kubernetes.io/is-default-class"
	defaultStorageClassBeta = "storageclass.beta.kubernetes.io/is-default-class"
	defaultIngressClass     = networkingv1.AnnotationIsDefaultIngressClass
	storageClassBeta        = corev1.BetaStorageClassAnnotation
	ingressClassBeta        = "kubernetes.io/ingress.class"
)

var (
	storageClasses = schema.GroupResource{Group: storagev1.GroupName, Resource: "storageclasses"}
	ingressClasses = schema.GroupResource{Group: networkingv1.GroupName, Resource: "ingressclasses"}
)

// DefaultStorageClass gives a new claim that names no class the default one.
// A claim for the class "" is left alone: it asks for a volume without class.
type DefaultStorageClass struct{ reader Reader }

// NewDefaultStorageClass makes the plugin.
func NewDefaultStorageClass(reader Reader) *DefaultStorageClass {
	return &DefaultStorageClass{reader: reader}
}

// Name is the plugin's name in flags and metrics.
func (*DefaultStorageClass) Name() string { return "DefaultStorageClass" }

// Mutate fills the class in.
func (p *DefaultStorageClass) Mutate(ctx context.Context, a *Attributes) error {
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || a.Operation != Create || a.Subresource != "" || claim.Spec.StorageClassName != nil {
		return nil
	}
	if _, named := claim.Annotations[storageClassBeta]; named {
		return nil
	}
	class, err := newestDefault(ctx, p.reader, storageClasses, defaultStorageClass, defaultStorageClassBeta)
	if err != nil || class == "" {
		return err
	}
	claim.Spec.StorageClassName = &class
	return nil
}

// DefaultIngressClass gives a new Ingress that names no class the default one.
type DefaultIngressClass struct{ reader Reader }

// NewDefaultIngressClass makes the plugin.
func NewDefaultIngressClass(reader Reader) *DefaultIngressClass {
	return &DefaultIngressClass{reader: reader}
}

// Name is the plugin's name in flags and metrics.
func (*DefaultIngressClass) Name() string { return "DefaultIngressClass" }

// Mutate fills the class in.
func (p *DefaultIngressClass) Mutate(ctx context.Context, a *Attributes) error {
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || a.Operation != Create || a.Subresource != "" || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, named := ingress.Annotations[ingressClassBeta]; named {
		return nil
	}
	class, err := newestDefault(ctx, p.reader, ingressClasses, defaultIngressClass)
	if err != nil || class == "" {
		return err
	}
	ingress.Spec.IngressClassName = &class
	return nil
}

// newestDefault is the name of the class with one of the annotations, "" for
// none. Of several the newest counts, as upstream has it, and of equally old
// ones the first by name.
func newestDefault(ctx context.Context, reader Reader, res schema.GroupResource, annotations ...string) (string, error) {
	all, err := reader.List(ctx, res, "")
	if err != nil {
		return "", fmt.Errorf("list %s: %w", res, err)
	}
	var best resource.Object
	for _, class := range all {
		if !isDefault(class, annotations) {
			continue
		}
		if best == nil || newer(class, best) {
			best = class
		}
	}
	if best == nil {
		return "", nil
	}
	return best.GetName(), nil
}

func isDefault(class resource.Object, annotations []string) bool {
	for _, key := range annotations {
		if class.GetAnnotations()[key] == "true" {
			return true
		}
	}
	return false
}

func newer(a, b resource.Object) bool {
	created, other := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if created.Time.Equal(other.Time) {
		return a.GetName() < b.GetName()
	}
	return other.Before(&created)
}
