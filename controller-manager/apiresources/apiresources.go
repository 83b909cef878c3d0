// Package apiresources asks the API server which resources it serves, for the
// controllers that handle objects of every kind: namespace and
// garbagecollector. It starts no goroutines.
package apiresources

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// Resource is one served resource in its preferred version.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Verbs      []string
}

// Can reports whether the resource has all the verbs.
func (r Resource) Can(verbs ...string) bool {
	return !slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(r.Verbs, v) })
}

// Discover lists all resources but subresources. When some groups did not
// answer, failed has their names and the others are returned with a nil error.
func Discover(client discovery.DiscoveryInterface) (all []Resource, failed map[string]error, err error) {
	lists, err := client.ServerPreferredResources()
	if broken, ok := discovery.GroupDiscoveryFailedErrorGroups(err); ok {
		failed = map[string]error{}
		for group, cause := range broken {
			failed[group.Group] = cause
		}
	} else if err != nil {
		return nil, nil, fmt.Errorf("discover resources: %w", err)
	}
	for _, list := range lists {
		all = append(all, resources(list)...)
	}
	return all, failed, nil
}

func resources(list *metav1.APIResourceList) []Resource {
	version, err := schema.ParseGroupVersion(list.GroupVersion)
	if err != nil {
		return nil
	}
	var found []Resource
	for _, r := range list.APIResources {
		if slices.Contains([]byte(r.Name), '/') {
			continue
		}
		found = append(found, Resource{
			GroupVersionResource: version.WithResource(r.Name), Kind: r.Kind, Namespaced: r.Namespaced, Verbs: r.Verbs,
		})
	}
	return found
}
