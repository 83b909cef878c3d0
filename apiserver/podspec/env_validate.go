package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateEnv(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Env {
		env, at := &c.Env[i], path.Child("env").Index(i)
		if env.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, invalidAll(at.Child("name"), env.Name, validation.IsRelaxedEnvVarName(env.Name))...)
		}
		if env.ValueFrom != nil {
			errs = append(errs, validateEnvSource(env, at.Child("valueFrom"))...)
		}
	}
	for i := range c.EnvFrom {
		from, at := &c.EnvFrom[i], path.Child("envFrom").Index(i)
		if from.Prefix != "" {
			errs = append(errs, invalidAll(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix))...)
		}
		errs = append(errs, validateEnvFrom(from, at)...)
	}
	return errs
}

func validateEnvFrom(from *corev1.EnvFromSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if from.ConfigMapRef != nil {
		errs = append(errs, requiredName(from.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
	}
	if from.SecretRef != nil {
		errs = append(errs, requiredName(from.SecretRef.Name, at.Child("secretRef", "name"))...)
	}
	switch {
	case from.ConfigMapRef == nil && from.SecretRef == nil:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
	case from.ConfigMapRef != nil && from.SecretRef != nil:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// requiredName checks the name of a ConfigMap or Secret that is referred to.
func requiredName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return invalidAll(at, name, validation.IsDNS1123Subdomain(name))
}

// envFields are the fields of a Pod a variable may be filled from.
var envFields = []string{
	"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
}

func validateEnvSource(env *corev1.EnvVar, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, sources := env.ValueFrom, 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields, at.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceRef(from.ResourceFieldRef, false, at.Child("resourceFieldRef"))...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("configMapKeyRef"))...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(ref.Name, ref.Key, at.Child("secretKeyRef"))...)
	}
	if ref := from.FileKeyRef; ref != nil {
		sources++
		errs = append(errs, validateFileKeyRef(ref, at.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case env.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, at *field.Path) field.ErrorList {
	errs := requiredName(name, at.Child("name"))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, invalidAll(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFileKeyRef(ref *corev1.FileKeySelector, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ref.Key == "" {
		errs = append(errs, field.Required(at.Child("key"), ""))
	} else {
		errs = append(errs, invalidAll(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))...)
	}
	if ref.VolumeName == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	}
	if ref.Path == "" {
		return append(errs, field.Required(at.Child("path"), ""))
	}
	return append(errs, validateDescendingPath(ref.Path, at.Child("path"))...)
}

// validateFieldRef allows the listed fields, and single labels and annotations.
func validateFieldRef(ref *corev1.ObjectFieldSelector, known []string, at *field.Path) field.ErrorList {
	if ref.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if ref.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	if ref.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), ref.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", ref.APIVersion))}
	}
	name, key, subscripted := splitSubscript(ref.FieldPath)
	switch {
	case subscripted && name == "metadata.annotations":
		return invalidAll(at, key, validation.IsQualifiedName(strings.ToLower(key)))
	case subscripted && name == "metadata.labels":
		return invalidAll(at, key, validation.IsQualifiedName(key))
	case subscripted:
		return field.ErrorList{field.Invalid(at, name, "does not support subscript")}
	case slices.Contains(known, ref.FieldPath):
		return nil
	}
	return field.ErrorList{field.NotSupported(at.Child("fieldPath"), ref.FieldPath, known)}
}

// splitSubscript reads metadata.labels['key'].
func splitSubscript(path string) (name, key string, ok bool) {
	name, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return path, "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// containerFields are the resources a container can be told.
var containerFields = []string{
	"limits.cpu", "limits.memory", "limits.ephemeral-storage",
	"requests.cpu", "requests.memory", "requests.ephemeral-storage",
}

func validateResourceRef(ref *corev1.ResourceFieldSelector, inVolume bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if inVolume && ref.ContainerName == "" {
		errs = append(errs, field.Required(at.Child("containerName"), ""))
	}
	name := ref.Resource
	huge := strings.HasPrefix(name, "limits."+corev1.ResourceHugePagesPrefix) || strings.HasPrefix(name, "requests."+corev1.ResourceHugePagesPrefix)
	switch {
	case name == "":
		return append(errs, field.Required(at.Child("resource"), ""))
	case !huge && !slices.Contains(containerFields, name):
		return append(errs, field.NotSupported(at.Child("resource"), name, containerFields))
	}
	return append(errs, validateDivisor(ref, at.Child("divisor"))...)
}

// divisors are the units in which a resource can be told.
var (
	cpuDivisors  = []string{"1", "1m"}
	byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

func validateDivisor(ref *corev1.ResourceFieldSelector, at *field.Path) field.ErrorList {
	divisor := ref.Divisor.String()
	if divisor == "0" {
		return nil
	}
	if strings.HasSuffix(ref.Resource, ".cpu") {
		if !slices.Contains(cpuDivisors, divisor) {
			return field.ErrorList{field.Invalid(at, divisor, "only divisor's values 1m and 1 are supported with the cpu resource")}
		}
		return nil
	}
	if !slices.Contains(byteDivisors, divisor) {
		return field.ErrorList{field.Invalid(at, divisor, "only divisor's values "+strings.Join(byteDivisors, ", ")+" are supported with the resource")}
	}
	return nil
}
