package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateIngress(_ *networkingv1.Ingress) field.ErrorList { return nil }

func validateNetworkPolicy(_ *networkingv1.NetworkPolicy) field.ErrorList { return nil }
