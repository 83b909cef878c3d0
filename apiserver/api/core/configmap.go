package core

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ConfigMap defines the kind.
func ConfigMap() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		Resource:                 "configmaps",
		ShortNames:               []string{"cm"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.ConfigMap{} },
		NewList:                  func() runtime.Object { return &corev1.ConfigMapList{} },
		Validate:                 typed.Check(validateConfigMap),
		ValidateUpdate:           typed.Check2(validateConfigMapUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  []column.Definition{column.Name(), column.Number("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]), column.Age()},
		Row: typed.Row(func(cm *corev1.ConfigMap, now metav1.Time) []any {
			return []any{cm.Name, int64(len(cm.Data) + len(cm.BinaryData)), column.Since(cm.CreationTimestamp, now)}
		}),
	}
}

func validateConfigMap(cm *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for key, value := range cm.Data {
		path := field.NewPath("data").Key(key)
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path, key, msg))
		}
		if _, twice := cm.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range cm.BinaryData {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("binaryData").Key(key), key, msg))
		}
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return errs
}

func validateConfigMapUpdate(cm, old *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	if isTrue(old.Immutable) {
		errs = append(errs, stillImmutable(cm.Immutable)...)
		if !maps.Equal(cm.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), immutableDetail))
		}
		if !maps.EqualFunc(cm.BinaryData, old.BinaryData, bytes.Equal) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableDetail))
		}
	}
	return append(errs, validateConfigMap(cm)...)
}

// immutableDetail explains a refused change of a ConfigMap or Secret.
const immutableDetail = "field is immutable when `immutable` is set"

func isTrue(flag *bool) bool { return flag != nil && *flag }

// stillImmutable refuses to take back the immutability of a ConfigMap or Secret.
func stillImmutable(flag *bool) field.ErrorList {
	if isTrue(flag) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), immutableDetail)}
}
