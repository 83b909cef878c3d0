package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// NetworkPolicy defines the kind.
func NetworkPolicy() *resource.Definition {
	d := &resource.Definition{
		Kind:                     networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
		Resource:                 "networkpolicies",
		ShortNames:               []string{"netpol"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &networkingv1.NetworkPolicy{} },
		NewList:                  func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		Default:                  typed.Do(defaultNetworkPolicy),
		Validate:                 typed.Check(validateNetworkPolicy),
		ValidateUpdate:           typed.CheckAgain(validateNetworkPolicy),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]),
			column.Age(),
		},
		Row: typed.Row(func(p *networkingv1.NetworkPolicy, now metav1.Time) []any {
			return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), column.Since(p.CreationTimestamp, now)}
		}),
	}
	typed.Generation(d, func(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicySpec { return &p.Spec })
	return d
}

func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		defaultPolicyPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPolicyPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) > 0 {
		return
	}
	// Any policy isolates for ingress; for egress only one with egress rules.
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(p.Spec.Egress) > 0 {
		p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
}

func defaultPolicyPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
}
