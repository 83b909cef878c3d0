package app

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/serviceip"
)

// newHooks makes the hooks that need the cluster's settings.
func newHooks(o *Options, kept *storage) (map[string]handler.Hook, error) {
	ranges, err := o.serviceRanges()
	if err != nil {
		return nil, err
	}
	config := serviceip.Config{
		Services:  kept.stores[corev1.Resource("services")],
		FirstPort: o.ServiceNodePortRange.Base, Ports: o.ServiceNodePortRange.Size,
	}
	for _, cidr := range ranges {
		prefix, err := netip.ParsePrefix(cidr.String())
		if err != nil {
			return nil, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		config.Ranges = append(config.Ranges, prefix)
	}
	return map[string]handler.Hook{"services": serviceip.New(config)}, nil
}
