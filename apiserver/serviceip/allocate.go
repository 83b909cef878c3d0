package serviceip

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// addressRange is one Service range. Addresses are numbered from 1; the
// network address and, for IPv4, the broadcast address are not given out.
type addressRange struct {
	prefix netip.Prefix
	size   uint64 // number of usable addresses
}

// maxRange bounds what of an IPv6 range is used, as upstream does (2^16 was
// its bitmap; addresses beyond 2^20 serve nobody).
const maxRange = 1 << 20

func newAddressRange(p netip.Prefix) addressRange {
	p = p.Masked()
	bits := p.Addr().BitLen() - p.Bits()
	total := uint64(maxRange)
	if bits < 20 {
		total = 1 << bits
	}
	r := addressRange{prefix: p, size: total - 1}
	if p.Addr().Is4() && bits <= 20 && total > 2 {
		r.size-- // the range ends at its broadcast address
	}
	return r
}

func (r addressRange) family() corev1.IPFamily { return familyOf(r.prefix.Addr()) }

// at returns the n-th usable address, n from 1.
func (r addressRange) at(n uint64) netip.Addr {
	if r.prefix.Addr().Is4() {
		base := r.prefix.Addr().As4()
		value := binary.BigEndian.Uint32(base[:]) + uint32(n)
		var out [4]byte
		binary.BigEndian.PutUint32(out[:], value)
		return netip.AddrFrom4(out)
	}
	base := r.prefix.Addr().As16()
	low := binary.BigEndian.Uint64(base[8:]) + n
	binary.BigEndian.PutUint64(base[8:], low)
	return netip.AddrFrom16(base)
}

// staticBand is the size of the lower part that is left to static choices as
// long as the upper one has room: min(max(least, size/step), most) (KEP-3070
// for addresses, KEP-3668 for ports).
func staticBand(size, least, step, most uint64) uint64 {
	if size <= least {
		return 0
	}
	return min(max(least, size/step), most)
}

// choose picks a free number of 1..size: the upper band from a random start,
// then the lower one.
func choose(size, band uint64, free func(n uint64) bool) (uint64, bool) {
	for _, part := range [][2]uint64{{band, size - band}, {0, band}} {
		low, count := part[0], part[1]
		if count == 0 {
			continue
		}
		start := rand.Uint64N(count)
		for i := range count {
			if n := low + 1 + (start+i)%count; free(n) {
				return n, true
			}
		}
	}
	return 0, false
}

type portRange struct{ first, size int }

func (p portRange) contains(port int32) bool {
	return int(port) >= p.first && int(port) < p.first+p.size
}

func (p portRange) String() string { return fmt.Sprintf("%d-%d", p.first, p.first+p.size-1) }

// allocation is one run of the hook.
type allocation struct {
	hook   *Hook
	taken  map[string]bool // by other Services
	own    map[string]bool // by this one already
	chosen []string
}

// load reads what other Services hold.
func (a *allocation) load(ctx context.Context, self *corev1.Service) error {
	page, err := a.hook.services.List(ctx, store.Query{Consistency: store.Consistency{AtLeast: store.Latest}})
	if err != nil {
		return fmt.Errorf("read allocated addresses: %w", err)
	}
	for _, item := range page.Items {
		s, ok := item.Object.(*corev1.Service)
		if !ok || s.Namespace == self.Namespace && s.Name == self.Name {
			continue
		}
		for _, key := range keysOf(&s.Spec) {
			a.taken[key] = true
		}
	}
	return nil
}

func (a *allocation) free(key string) bool {
	return !a.taken[key] && (a.own[key] || !a.hook.reserved[key])
}

func (a *allocation) take(key string) {
	a.taken[key] = true
	a.chosen = append(a.chosen, key)
}

// addresses completes clusterIPs, one per family.
func (a *allocation) addresses(spec *corev1.ServiceSpec) field.ErrorList {
	if spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	path := field.NewPath("spec", "clusterIPs")
	ips := append([]string(nil), spec.ClusterIPs...)
	if len(ips) > len(spec.IPFamilies) {
		ips = ips[:len(spec.IPFamilies)]
	}
	for i, family := range spec.IPFamilies {
		r := a.hook.rangeOf(family)
		if i < len(ips) && ips[i] != "" {
			if err := a.fixed(r, ips[i]); err != nil {
				return field.ErrorList{field.Invalid(path, spec.ClusterIPs, "failed to allocate IP "+ips[i]+": "+err.Error())}
			}
			continue
		}
		n, ok := choose(r.size, staticBand(r.size, 16, 16, 256), func(n uint64) bool { return a.free(r.at(n).String()) })
		if !ok {
			return field.ErrorList{field.InternalError(path, fmt.Errorf("failed to allocate a serviceIP: range %s is full", r.prefix))}
		}
		a.take(r.at(n).String())
		ips = append(ips, r.at(n).String())
	}
	spec.ClusterIPs, spec.ClusterIP = ips, ips[0]
	return nil
}

// fixed takes an address the client chose.
func (a *allocation) fixed(r *addressRange, ip string) error {
	if a.own[ip] {
		return nil
	}
	address, err := netip.ParseAddr(ip)
	if err != nil || !r.prefix.Contains(address) || address == r.prefix.Addr() {
		return fmt.Errorf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, r.prefix) //nolint:staticcheck // upstream's text
	}
	if !a.free(ip) {
		return fmt.Errorf("provided IP is already allocated")
	}
	a.take(ip)
	return nil
}

// nodePorts completes node ports where the type has them.
func (a *allocation) nodePorts(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	given := map[int32]int32{} // node port by port, so that protocols of one port share it
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort != 0 {
			errs = append(errs, a.fixedPort(port.Protocol, port.NodePort, path.Child("ports").Index(i).Child("nodePort"))...)
			given[port.Port] = port.NodePort
		}
	}
	if needsHealthPort(spec) {
		errs = append(errs, a.healthPort(spec, path.Child("healthCheckNodePort"))...)
	}
	if !needsNodePorts(spec) || len(errs) > 0 {
		return errs
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort != 0 {
			continue
		}
		if shared := given[port.Port]; shared != 0 && a.free(portKey(port.Protocol, shared)) {
			port.NodePort = shared
			a.take(portKey(port.Protocol, shared))
			continue
		}
		n, ok := a.nextPort(port.Protocol)
		if !ok {
			return append(errs, field.InternalError(path.Child("ports").Index(i).Child("nodePort"),
				fmt.Errorf("failed to allocate a nodePort: range is full")))
		}
		port.NodePort, given[port.Port] = n, n
	}
	return errs
}

func (a *allocation) healthPort(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	if spec.HealthCheckNodePort != 0 {
		return a.fixedPort(corev1.ProtocolTCP, spec.HealthCheckNodePort, path)
	}
	n, ok := a.nextPort(corev1.ProtocolTCP)
	if !ok {
		return field.ErrorList{field.InternalError(path, fmt.Errorf("failed to allocate a health check nodePort: range is full"))}
	}
	spec.HealthCheckNodePort = n
	return nil
}

func (a *allocation) fixedPort(protocol corev1.Protocol, port int32, path *field.Path) field.ErrorList {
	key := portKey(protocol, port)
	switch {
	case a.own[key]:
		return nil
	case !a.hook.ports.contains(port):
		return field.ErrorList{field.Invalid(path, port, "provided port is not in the valid range. The range of valid ports is "+a.hook.ports.String())}
	case !a.free(key):
		return field.ErrorList{field.Invalid(path, port, "provided port is already allocated")}
	}
	a.take(key)
	return nil
}

// nextPort takes a port number that is free in every protocol, so that a
// Service that adds a protocol later can have the same one.
func (a *allocation) nextPort(protocol corev1.Protocol) (int32, bool) {
	size := uint64(a.hook.ports.size)
	n, ok := choose(size, staticBand(size, 16, 32, 128), func(n uint64) bool {
		port := int32(a.hook.ports.first) + int32(n) - 1
		for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
			if !a.free(portKey(p, port)) {
				return false
			}
		}
		return true
	})
	if !ok {
		return 0, false
	}
	port := int32(a.hook.ports.first) + int32(n) - 1
	a.take(portKey(protocol, port))
	return port, true
}
