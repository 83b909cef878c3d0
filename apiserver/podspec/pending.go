package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func ValidateOverhead(corev1.ResourceList, *field.Path) field.ErrorList     { return nil }
func ValidateTolerations([]corev1.Toleration, *field.Path) field.ErrorList  { return nil }
func ValidateIntOrPercent(intstr.IntOrString, *field.Path) field.ErrorList  { return nil }
func ValidatePod(*corev1.Pod) field.ErrorList                               { return nil }
func ValidateTemplate(*corev1.PodTemplateSpec, *field.Path) field.ErrorList { return nil }
