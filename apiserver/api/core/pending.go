package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePersistentVolume(_ *corev1.PersistentVolume) field.ErrorList { return nil }

func validatePersistentVolumeUpdate(_, _ *corev1.PersistentVolume) field.ErrorList { return nil }

func validateReplicationController(_ *corev1.ReplicationController) field.ErrorList { return nil }

func validateReplicationControllerStatus(_, _ *corev1.ReplicationController) field.ErrorList {
	return nil
}

func validateClaim(_ *corev1.PersistentVolumeClaim) field.ErrorList { return nil }

func validateClaimUpdate(_, _ *corev1.PersistentVolumeClaim) field.ErrorList { return nil }

func validateClaimStatus(_, _ *corev1.PersistentVolumeClaim) field.ErrorList { return nil }

func validateEndpoints(_ *corev1.Endpoints) field.ErrorList { return nil }

func validateEvent(_ *corev1.Event) field.ErrorList { return nil }

func validateLimitRange(_ *corev1.LimitRange) field.ErrorList { return nil }

func validateResourceQuota(_ *corev1.ResourceQuota) field.ErrorList { return nil }

func validateResourceQuotaUpdate(_, _ *corev1.ResourceQuota) field.ErrorList { return nil }

func validateNode(_ *corev1.Node) field.ErrorList { return nil }

func validateNodeUpdate(_, _ *corev1.Node) field.ErrorList { return nil }

func validatePodUpdate(_, _ *corev1.Pod) field.ErrorList { return nil }

func validatePodStatus(_, _ *corev1.Pod) field.ErrorList { return nil }

func validateEphemeralContainersUpdate(_, _ *corev1.Pod) field.ErrorList { return nil }

func validatePodResize(_, _ *corev1.Pod) field.ErrorList { return nil }

func validateService(_ *corev1.Service) field.ErrorList { return nil }

func validateServiceUpdate(_, _ *corev1.Service) field.ErrorList { return nil }

func validateServiceStatus(_, _ *corev1.Service) field.ErrorList { return nil }

func serviceName(name string, prefix bool) []string { return nil }

func podWarnings(_, _ *corev1.Pod) []string { return nil }

func serviceWarnings(_, _ *corev1.Service) []string { return nil }
