package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// IngressClass defines the kind.
func IngressClass() *resource.Definition {
	d := &resource.Definition{
		Kind:     networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		Resource: "ingressclasses",
		New:      func() runtime.Object { return &networkingv1.IngressClass{} },
		NewList:  func() runtime.Object { return &networkingv1.IngressClassList{} },
		Default: typed.Do(func(c *networkingv1.IngressClass) {
			if c.Spec.Parameters != nil && c.Spec.Parameters.Scope == nil {
				c.Spec.Parameters.Scope = ptr.To(networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		}),
		Validate:                 typed.Check(validateIngressClass),
		ValidateUpdate:           typed.Check2(validateIngressClassUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Controller", "Controller that is responsible for handling this class"),
			column.Text("Parameters", "A reference to a resource with additional parameters"),
			column.Age(),
		},
		Row: typed.Row(func(c *networkingv1.IngressClass, now metav1.Time) []any {
			parameters := column.None
			if p := c.Spec.Parameters; p != nil {
				parameters = p.Kind
				if p.APIGroup != nil {
					parameters += "." + *p.APIGroup
				}
				parameters += "/" + p.Name
			}
			return []any{c.Name, c.Spec.Controller, parameters, column.Since(c.CreationTimestamp, now)}
		}),
	}
	typed.Generation(d, func(c *networkingv1.IngressClass) *networkingv1.IngressClassSpec { return &c.Spec })
	return d
}
