package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// IPAddress defines the kind: one allocated address of a Service.
func IPAddress() *resource.Definition {
	return &resource.Definition{
		Kind:                     networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Resource:                 "ipaddresses",
		ShortNames:               []string{"ip"},
		New:                      func() runtime.Object { return &networkingv1.IPAddress{} },
		NewList:                  func() runtime.Object { return &networkingv1.IPAddressList{} },
		Validate:                 typed.Check(validateIPAddress),
		ValidateUpdate:           typed.Check2(validateIPAddressUpdate),
		ValidateName:             addressName,
		AllowUnconditionalUpdate: true,
		Fields: typed.Fields(func(a *networkingv1.IPAddress) map[string]string {
			ref := networkingv1.ParentReference{}
			if a.Spec.ParentRef != nil {
				ref = *a.Spec.ParentRef
			}
			return map[string]string{
				"spec.parentRef.group": ref.Group, "spec.parentRef.resource": ref.Resource,
				"spec.parentRef.namespace": ref.Namespace, "spec.parentRef.name": ref.Name,
			}
		}),
		Columns: []column.Definition{
			column.Name(),
			column.Text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]),
			column.Age(),
		},
		Row: typed.Row(func(a *networkingv1.IPAddress, now metav1.Time) []any {
			return []any{a.Name, parentCell(a.Spec.ParentRef), column.Since(a.CreationTimestamp, now)}
		}),
	}
}

func parentCell(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return column.None
	}
	text := ref.Resource
	if ref.Group != "" {
		text += "." + ref.Group
	}
	if ref.Namespace != "" {
		text += "/" + ref.Namespace
	}
	return text + "/" + ref.Name
}
