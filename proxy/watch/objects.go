package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// ServiceOf returns the key of the Service a slice belongs to, "" for none.
func ServiceOf(slice *discoveryv1.EndpointSlice) string {
	name := slice.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		return ""
	}
	return slice.Namespace + "/" + name
}

// Services returns all of them. The objects are read-only.
func (w *Watch) Services() []*corev1.Service {
	objects := w.services.GetIndexer().List()
	all := make([]*corev1.Service, len(objects))
	for i, obj := range objects {
		all[i] = obj.(*corev1.Service)
	}
	return all
}

// Service returns one by its key, nil when there is none. Read-only.
func (w *Watch) Service(key string) *corev1.Service {
	obj, found, err := w.services.GetIndexer().GetByKey(key)
	if err != nil || !found {
		return nil
	}
	return obj.(*corev1.Service)
}

// Slices returns the EndpointSlices of a Service. Read-only.
func (w *Watch) Slices(service string) []*discoveryv1.EndpointSlice {
	return typed[*discoveryv1.EndpointSlice](w.slices, byService, service)
}

// ServicesAt returns the Services with this cluster IP: one, or none. Read-only.
func (w *Watch) ServicesAt(ip string) []*corev1.Service {
	return typed[*corev1.Service](w.services, byAddress, ip)
}

// SlicesAt returns the EndpointSlices with this endpoint address. Read-only.
func (w *Watch) SlicesAt(ip string) []*discoveryv1.EndpointSlice {
	return typed[*discoveryv1.EndpointSlice](w.slices, byAddress, ip)
}

// Zone is the node's zone, "" when it has none or is unknown.
func (w *Watch) Zone() string {
	obj, found, err := w.nodes.GetIndexer().GetByKey(w.node)
	if err != nil || !found {
		return ""
	}
	return zone(obj)
}

// typed reads an index; it fails only for an index that does not exist.
func typed[T any](informer cache.SharedIndexInformer, index, value string) []T {
	objects, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil
	}
	all := make([]T, len(objects))
	for i, obj := range objects {
		all[i] = obj.(T)
	}
	return all
}

func keyOf(obj any) string {
	if svc, ok := obj.(*corev1.Service); ok {
		return svc.Namespace + "/" + svc.Name
	}
	return ""
}

func sliceService(obj any) ([]string, error) {
	if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
		if key := ServiceOf(slice); key != "" {
			return []string{key}, nil
		}
	}
	return nil, nil
}

func serviceAddresses(obj any) ([]string, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil, nil
	}
	return svc.Spec.ClusterIPs, nil
}

func sliceAddresses(obj any) ([]string, error) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	var all []string
	for i := range slice.Endpoints {
		all = append(all, slice.Endpoints[i].Addresses...)
	}
	return all, nil
}
