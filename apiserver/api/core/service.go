package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Service defines the kind. Addresses and node ports are allocated by a hook
// that runs before validation.
func Service() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Service"),
		Resource:                 "services",
		ShortNames:               []string{"svc"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.Service{} },
		NewList:                  func() runtime.Object { return &corev1.ServiceList{} },
		StorePrefix:              "services/specs",
		Default:                  typed.Do(defaultService),
		PrepareCreate:            typed.Do(createService),
		PrepareUpdate:            typed.Do2(updateService),
		Validate:                 typed.Check(validateService),
		ValidateUpdate:           typed.Check2(validateServiceUpdate),
		ValidateName:             serviceName,
		Warnings:                 typed.Warnings(serviceWarnings),
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Fields: typed.Fields(func(s *corev1.Service) map[string]string {
			return map[string]string{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		}),
		Columns: serviceColumns(),
		Row:     typed.Row(serviceRow),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(func(s, old *corev1.Service) { s.Spec = old.Spec }),
			Validate: typed.Check2(validateServiceStatus),
		},
		Subresources: []resource.Subresource{proxySubresource("ServiceProxyOptions", func() runtime.Object { return &corev1.ServiceProxyOptions{} })},
	}
}

func serviceColumns() []column.Definition {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return append([]column.Definition{
		column.Name(),
		column.Text("Type", doc["type"]),
		column.Text("Cluster-IP", doc["clusterIP"]),
		column.Text("External-IP", doc["externalIPs"]),
		column.Text("Port(s)", doc["ports"]),
		column.Age(),
	}, column.Wide(column.Text("Selector", doc["selector"]))...)
}

func serviceRow(s *corev1.Service, now metav1.Time) []any {
	return []any{
		s.Name, string(s.Spec.Type), column.OrNone(s.Spec.ClusterIP), serviceExternal(s), servicePorts(s),
		column.Since(s.CreationTimestamp, now), labels.FormatLabels(s.Spec.Selector),
	}
}

func serviceExternal(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		addresses := append(ingressAddresses(s.Status.LoadBalancer), s.Spec.ExternalIPs...)
		if len(addresses) == 0 {
			return "<pending>"
		}
		return strings.Join(addresses, ",")
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return column.OrNone(strings.Join(s.Spec.ExternalIPs, ","))
	}
	return column.Unknown
}

func ingressAddresses(status corev1.LoadBalancerStatus) []string {
	seen := map[string]bool{}
	for _, ingress := range status.Ingress {
		if ingress.IP != "" {
			seen[ingress.IP] = true
		} else if ingress.Hostname != "" {
			seen[ingress.Hostname] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func servicePorts(s *corev1.Service) string {
	var ports []string
	for _, port := range s.Spec.Ports {
		text := fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		if port.NodePort > 0 {
			text = fmt.Sprintf("%d:%d/%s", port.Port, port.NodePort, port.Protocol)
		}
		ports = append(ports, text)
	}
	return column.OrNone(strings.Join(ports, ","))
}
