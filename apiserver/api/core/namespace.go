package core

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Namespace defines the kind.
func Namespace() *resource.Definition {
	d := &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Namespace"),
		Resource:                 "namespaces",
		ShortNames:               []string{"ns"},
		Verbs:                    []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		New:                      func() runtime.Object { return &corev1.Namespace{} },
		NewList:                  func() runtime.Object { return &corev1.NamespaceList{} },
		Default:                  typed.Do(defaultNamespace),
		PrepareCreate:            typed.Do(createNamespace),
		PrepareUpdate:            typed.Do2(updateNamespace),
		Validate:                 typed.Check(validateNamespace),
		ValidateUpdate:           typed.Check2(func(ns, _ *corev1.Namespace) field.ErrorList { return validateNamespace(ns) }),
		ValidateName:             apivalidation.NameIsDNSLabel,
		AllowUnconditionalUpdate: true,
		BeginDelete:              typed.Do(func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating }),
		ReadyToDelete:            func(obj runtime.Object) bool { return len(obj.(*corev1.Namespace).Spec.Finalizers) == 0 },
		Fields: typed.Fields(func(ns *corev1.Namespace) map[string]string {
			// "name" is an alias that old clients use.
			return map[string]string{"status.phase": string(ns.Status.Phase), "name": ns.Name}
		}),
		Columns: []column.Definition{column.Name(), column.Text("Status", "The status of the namespace"), column.Age()},
		Row: typed.Row(func(ns *corev1.Namespace, now metav1.Time) []any {
			return []any{ns.Name, string(ns.Status.Phase), column.Since(ns.CreationTimestamp, now)}
		}),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(func(ns, old *corev1.Namespace) { ns.Spec = old.Spec }),
			Validate: typed.Check2(validateNamespaceStatus),
		},
		Subresources: []resource.Subresource{{
			Name:     "finalize",
			Kind:     corev1.SchemeGroupVersion.WithKind("Namespace"),
			New:      func() runtime.Object { return &corev1.Namespace{} },
			Verbs:    []string{"update"},
			Set:      setNamespaceFinalizers,
			Validate: typed.Check2(func(ns, _ *corev1.Namespace) field.ErrorList { return validateNamespace(ns) }),
		}},
	}
	return d
}

// defaultNamespace keeps the label by which selectors find a namespace by name.
func defaultNamespace(ns *corev1.Namespace) {
	// With generateName the name is not known yet; the label follows when the
	// object is defaulted again.
	if ns.Name == "" {
		return
	}
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func createNamespace(ns *corev1.Namespace) {
	defaultNamespace(ns)
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func updateNamespace(ns, old *corev1.Namespace) {
	ns.Spec.Finalizers = old.Spec.Finalizers
	ns.Status = old.Status
}

func setNamespaceFinalizers(parent, body runtime.Object) error {
	parent.(*corev1.Namespace).Spec.Finalizers = body.(*corev1.Namespace).Spec.Finalizers
	return nil
}

func validateNamespace(ns *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, name := range ns.Spec.Finalizers {
		errs = append(errs, validateFinalizer(string(name), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

// standardFinalizers are the ones that need no domain (core/v1, meta/v1).
var standardFinalizers = []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}

func validateFinalizer(name string, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateFinalizerName(name, path)
	if len(errs) == 0 && !containsSlash(name) && !slices.Contains(standardFinalizers, name) {
		errs = append(errs, field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
	}
	return errs
}

func containsSlash(name string) bool {
	return slices.Contains([]byte(name), '/')
}

func validateNamespaceStatus(ns, _ *corev1.Namespace) field.ErrorList {
	path := field.NewPath("status", "phase")
	deleting := !ns.DeletionTimestamp.IsZero()
	switch {
	case deleting && ns.Status.Phase != corev1.NamespaceTerminating:
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	case !deleting && ns.Status.Phase != corev1.NamespaceActive:
		return field.ErrorList{field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	}
	return nil
}
