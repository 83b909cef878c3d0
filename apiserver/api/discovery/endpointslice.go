package discovery

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// EndpointSlice defines the kind.
func EndpointSlice() *resource.Definition {
	return &resource.Definition{
		Kind:                     discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Resource:                 "endpointslices",
		Namespaced:               true,
		New:                      func() runtime.Object { return &discoveryv1.EndpointSlice{} },
		NewList:                  func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Default:                  typed.Do(defaultEndpointSlice),
		PrepareCreate:            typed.Do(func(s *discoveryv1.EndpointSlice) { s.Generation = 1 }),
		PrepareUpdate:            typed.Do2(updateEndpointSlice),
		Validate:                 typed.Check(validateEndpointSlice),
		ValidateUpdate:           typed.Check2(validateEndpointSliceUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("AddressType", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
			column.Text("Ports", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
			column.Text("Endpoints", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
			column.Age(),
		},
		Row: typed.Row(endpointSliceRow),
	}
}

func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = ptr.To("")
		}
		if s.Ports[i].Protocol == nil {
			s.Ports[i].Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
}

// updateEndpointSlice counts changes of what consumers read: everything but
// the rest of metadata.
func updateEndpointSlice(s, old *discoveryv1.EndpointSlice) {
	changed := !equality.Semantic.DeepEqual(s.Labels, old.Labels) ||
		!equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) ||
		!equality.Semantic.DeepEqual(s.Ports, old.Ports)
	typed.BumpGeneration(s, old, changed)
}

func endpointSliceRow(s *discoveryv1.EndpointSlice, now metav1.Time) []any {
	var ports, addresses []string
	for _, port := range s.Ports {
		text := "*"
		if port.Port != nil {
			text = strconv.Itoa(int(*port.Port))
		} else if name := ptr.Deref(port.Name, ""); name != "" {
			text = name
		}
		ports = append(ports, text)
	}
	for i := range s.Endpoints {
		addresses = append(addresses, s.Endpoints[i].Addresses...)
	}
	return []any{
		s.Name, string(s.AddressType), unsetOr(ports), unsetOr(addresses), column.Since(s.CreationTimestamp, now),
	}
}

func unsetOr(list []string) string {
	if len(list) == 0 {
		return "<unset>"
	}
	// Three entries are what fits a terminal's line.
	if len(list) > 3 {
		return strings.Join(list[:3], ",") + " + " + strconv.Itoa(len(list)-3) + " more..."
	}
	return strings.Join(list, ",")
}
