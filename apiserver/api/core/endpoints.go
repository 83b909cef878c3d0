package core

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Endpoints defines the kind, the predecessor of EndpointSlice.
func Endpoints() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Resource:                 "endpoints",
		Singular:                 "endpoints",
		ShortNames:               []string{"ep"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.Endpoints{} },
		NewList:                  func() runtime.Object { return &corev1.EndpointsList{} },
		StorePrefix:              "services/endpoints",
		Default:                  typed.Do(defaultEndpoints),
		Validate:                 typed.Check(validateEndpoints),
		ValidateUpdate:           typed.CheckAgain(validateEndpoints),
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Warnings: typed.Warnings(func(_, _ *corev1.Endpoints) []string {
			return []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
		}),
		Columns: []column.Definition{column.Name(), column.Text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]), column.Age()},
		Row: typed.Row(func(e *corev1.Endpoints, now metav1.Time) []any {
			return []any{e.Name, endpointsCell(e), column.Since(e.CreationTimestamp, now)}
		}),
	}
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if e.Subsets[i].Ports[j].Protocol == "" {
				e.Subsets[i].Ports[j].Protocol = corev1.ProtocolTCP
			}
		}
	}
}

func endpointsCell(e *corev1.Endpoints) string {
	var list []string
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		if len(subset.Ports) == 0 {
			// A headless service without ports has addresses all the same.
			for _, address := range subset.Addresses {
				list = append(list, address.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, address := range subset.Addresses {
				list = append(list, net.JoinHostPort(address.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	if len(list) == 0 {
		return column.None
	}
	return column.FirstOf(list, 3)
}
