package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ServiceCIDR defines the kind: a range that Service addresses come from.
func ServiceCIDR() *resource.Definition {
	d := &resource.Definition{
		Kind:                     networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Resource:                 "servicecidrs",
		New:                      func() runtime.Object { return &networkingv1.ServiceCIDR{} },
		NewList:                  func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Validate:                 typed.Check(validateServiceCIDR),
		ValidateUpdate:           typed.Check2(validateServiceCIDRUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]),
			column.Age(),
		},
		Row: typed.Row(func(c *networkingv1.ServiceCIDR, now metav1.Time) []any {
			return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), column.Since(c.CreationTimestamp, now)}
		}),
	}
	typed.Parts[*networkingv1.ServiceCIDR, networkingv1.ServiceCIDRSpec, networkingv1.ServiceCIDRStatus]{
		Spec:   func(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRSpec { return &c.Spec },
		Status: func(c *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRStatus { return &c.Status },
	}.Apply(d)
	return d
}
