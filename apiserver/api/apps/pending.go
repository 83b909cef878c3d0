package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateStatefulSet(_ *appsv1.StatefulSet) field.ErrorList { return nil }

func validateStatefulSetUpdate(_, _ *appsv1.StatefulSet) field.ErrorList { return nil }

func validateStatefulSetStatus(_, _ *appsv1.StatefulSet) field.ErrorList { return nil }

func validateReplicaSet(_ *appsv1.ReplicaSet) field.ErrorList { return nil }

func validateReplicaSetUpdate(_, _ *appsv1.ReplicaSet) field.ErrorList { return nil }

func validateReplicaSetStatus(_, _ *appsv1.ReplicaSet) field.ErrorList { return nil }

func validateDeployment(_ *appsv1.Deployment) field.ErrorList { return nil }

func validateDeploymentUpdate(_, _ *appsv1.Deployment) field.ErrorList { return nil }

func validateDeploymentStatus(_, _ *appsv1.Deployment) field.ErrorList { return nil }

func validateDaemonSet(_ *appsv1.DaemonSet) field.ErrorList { return nil }

func validateDaemonSetUpdate(_, _ *appsv1.DaemonSet) field.ErrorList { return nil }

func validateDaemonSetStatus(_, _ *appsv1.DaemonSet) field.ErrorList { return nil }
