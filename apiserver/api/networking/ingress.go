package networking

import (
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Ingress defines the kind.
func Ingress() *resource.Definition {
	d := &resource.Definition{
		Kind:                     networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		Resource:                 "ingresses",
		ShortNames:               []string{"ing"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &networkingv1.Ingress{} },
		NewList:                  func() runtime.Object { return &networkingv1.IngressList{} },
		StorePrefix:              "ingress",
		Validate:                 typed.Check(validateIngress),
		ValidateUpdate:           typed.CheckAgain(validateIngress),
		Warnings:                 typed.Warnings(ingressWarnings),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
			column.Text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
			column.Text("Address", "Address is a list containing ingress points for the load-balancer"),
			column.Text("Ports", "Ports of TLS configurations that open"),
			column.Age(),
		},
		Row: typed.Row(ingressRow),
	}
	typed.Parts[*networkingv1.Ingress, networkingv1.IngressSpec, networkingv1.IngressStatus]{
		Spec:       func(i *networkingv1.Ingress) *networkingv1.IngressSpec { return &i.Spec },
		Status:     func(i *networkingv1.Ingress) *networkingv1.IngressStatus { return &i.Status },
		Generation: true,
	}.Apply(d)
	return d
}

// ingressClassAnnotation named the class before spec.ingressClassName did.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

func ingressWarnings(i, _ *networkingv1.Ingress) []string {
	if _, ok := i.Annotations[ingressClassAnnotation]; ok {
		return []string{"annotation \"" + ingressClassAnnotation + "\" is deprecated, please use 'spec.ingressClassName' instead"}
	}
	return nil
}

func ingressRow(i *networkingv1.Ingress, now metav1.Time) []any {
	ports := "80"
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{
		i.Name, ptr.Deref(i.Spec.IngressClassName, column.None), ingressHosts(i.Spec.Rules),
		ingressAddresses(i.Status.LoadBalancer), ports, column.Since(i.CreationTimestamp, now),
	}
}

func ingressHosts(rules []networkingv1.IngressRule) string {
	var hosts []string
	for _, rule := range rules {
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	if len(hosts) == 0 {
		return "*"
	}
	return column.FirstOf(hosts, 3)
}

func ingressAddresses(status networkingv1.IngressLoadBalancerStatus) string {
	seen := map[string]bool{}
	for _, ingress := range status.Ingress {
		if ingress.IP != "" {
			seen[ingress.IP] = true
		} else if ingress.Hostname != "" {
			seen[ingress.Hostname] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), ",")
}
