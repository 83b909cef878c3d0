package app

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	netutils "k8s.io/utils/net"

	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/ipalloc"
	"github.com/skeg-dev/skeg/apiserver/serviceip"
	"github.com/skeg-dev/skeg/internal/component"
)

// reservedIndexes number the addresses of a range that only who asks for them
// gets: the Service default/kubernetes and the cluster's DNS.
var reservedIndexes = []int{1, 10}

// newHooks makes the hooks that need the cluster's settings, and what runs
// along with them: service addresses and ports are repaired before the first
// request is served.
func newHooks(o *Options, kept *storage, logger *slog.Logger) (map[string]handler.Hook, []component.Part, error) {
	ranges, err := o.serviceRanges()
	if err != nil {
		return nil, nil, err
	}
	services := kept.stores[corev1.Resource("services")]
	addresses := kept.stores[networkingv1.Resource("ipaddresses")]
	var families []*ipalloc.Addresses
	for _, cidr := range ranges {
		config := ipalloc.AddressesConfig{Store: addresses, Reserved: reserved(cidr)}
		if config.Range, err = netip.ParsePrefix(cidr.String()); err != nil {
			return nil, nil, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		family, err := ipalloc.NewAddresses(config)
		if err != nil {
			return nil, nil, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		families = append(families, family)
	}
	ports, err := ipalloc.NewPorts(ipalloc.PortsConfig{
		Store: kept.ranges, First: o.ServiceNodePortRange.Base, Count: o.ServiceNodePortRange.Size,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--service-node-port-range: %w", err)
	}
	hook := serviceip.New(serviceip.Config{Services: services, Families: families, Ports: ports, Logger: logger})
	repair := &ipalloc.Repair{Services: services, IPAddresses: addresses, Families: families, Ports: ports, Logger: logger}
	return map[string]handler.Hook{"services": hook}, []component.Part{{Name: "service-addresses", Runnable: repair}}, nil
}

func reserved(cidr *net.IPNet) []netip.Addr {
	var out []netip.Addr
	for _, index := range reservedIndexes {
		ip, err := netutils.GetIndexedIP(cidr, index)
		if err != nil {
			break // the range is smaller
		}
		if address, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, address.Unmap())
		}
	}
	return out
}
