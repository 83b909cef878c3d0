package serviceip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/ipalloc"
)

// allocation is one run of the hook.
type allocation struct {
	families []*ipalloc.Addresses
	ports    *ipalloc.Ports
	owner    ipalloc.Owner
	// had is what the Service holds already.
	had holdings
	// fresh is what this run allocated.
	fresh holdings
}

// refused says that what the client asks for cannot be given; other errors are
// the store's.
func refused(err error) bool {
	return errors.Is(err, ipalloc.ErrAllocated) || errors.Is(err, ipalloc.ErrNotInRange) || errors.Is(err, ipalloc.ErrFull)
}

// addresses completes clusterIPs, one per family.
func (a *allocation) addresses(ctx context.Context, spec *corev1.ServiceSpec) (field.ErrorList, error) {
	if spec.ClusterIP == corev1.ClusterIPNone {
		return nil, nil
	}
	path := field.NewPath("spec", "clusterIPs")
	ips := slices.Clone(spec.ClusterIPs)
	if len(ips) > len(spec.IPFamilies) {
		ips = ips[:len(spec.IPFamilies)]
	}
	for i, family := range spec.IPFamilies {
		from := familyIn(a.families, family)
		if i < len(ips) && ips[i] != "" {
			if errs, err := a.fixed(ctx, from, ips[i], path, spec.ClusterIPs); len(errs) > 0 || err != nil {
				return errs, err
			}
			continue
		}
		got, err := from.Allocate(ctx, a.owner, netip.Addr{})
		if refused(err) {
			return field.ErrorList{field.InternalError(path, fmt.Errorf("failed to allocate a serviceIP: range %s is full", from.Range()))}, nil
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // says what
		}
		a.fresh.addresses = append(a.fresh.addresses, got)
		ips = append(ips, got.String())
	}
	spec.ClusterIPs, spec.ClusterIP = ips, ips[0]
	return nil, nil
}

// fixed takes an address the client chose.
func (a *allocation) fixed(ctx context.Context, from *ipalloc.Addresses, ip string, path *field.Path, all []string) (field.ErrorList, error) {
	refuse := func(why string) (field.ErrorList, error) {
		return field.ErrorList{field.Invalid(path, all, "failed to allocate IP "+ip+": "+why)}, nil
	}
	outside := fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, from.Range())
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return refuse(outside)
	}
	if slices.Contains(a.had.addresses, address) {
		return nil, nil
	}
	// What the Service of this name holds already, as an earlier one did whose
	// deletion is not finished, is not this write's to give back.
	claimed, err := from.Claimed(ctx, a.owner, address)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what
	}
	switch _, err = from.Allocate(ctx, a.owner, address); {
	case errors.Is(err, ipalloc.ErrNotInRange):
		return refuse(outside)
	case refused(err):
		return refuse("provided IP is already allocated")
	case err != nil:
		return nil, err //nolint:wrapcheck // says what
	case claimed == 0:
		a.fresh.addresses = append(a.fresh.addresses, address)
	}
	return nil, nil
}

// nodePorts completes node ports where the type has them.
func (a *allocation) nodePorts(ctx context.Context, spec *corev1.ServiceSpec) (field.ErrorList, error) {
	path := field.NewPath("spec")
	given := map[int32]int32{} // node port by port, so that protocols of one port share it
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort == 0 {
			continue
		}
		if errs, err := a.fixedPort(ctx, port.NodePort, path.Child("ports").Index(i).Child("nodePort")); len(errs) > 0 || err != nil {
			return errs, err
		}
		given[port.Port] = port.NodePort
	}
	if needsHealthPort(spec) {
		if errs, err := a.healthPort(ctx, spec, path.Child("healthCheckNodePort")); len(errs) > 0 || err != nil {
			return errs, err
		}
	}
	if !needsNodePorts(spec) {
		return nil, nil
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort != 0 {
			continue
		}
		if shared := given[port.Port]; shared != 0 && !uses(spec, port.Protocol, shared) {
			port.NodePort = shared
			continue
		}
		n, errs, err := a.nextPort(ctx, path.Child("ports").Index(i).Child("nodePort"), "failed to allocate a nodePort: range is full")
		if len(errs) > 0 || err != nil {
			return errs, err
		}
		port.NodePort, given[port.Port] = n, n
	}
	return nil, nil
}

// uses says whether a Service has a node port for a protocol already.
func uses(spec *corev1.ServiceSpec, protocol corev1.Protocol, nodePort int32) bool {
	return slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == protocol && p.NodePort == nodePort }) ||
		protocol == corev1.ProtocolTCP && spec.HealthCheckNodePort == nodePort
}

func (a *allocation) healthPort(ctx context.Context, spec *corev1.ServiceSpec, path *field.Path) (field.ErrorList, error) {
	wanted := spec.HealthCheckNodePort
	if wanted == 0 {
		n, errs, err := a.nextPort(ctx, path, "failed to allocate a health check nodePort: range is full")
		spec.HealthCheckNodePort = n
		return errs, err
	}
	for _, port := range spec.Ports {
		if port.Protocol == corev1.ProtocolTCP && port.NodePort == wanted {
			return field.ErrorList{field.Invalid(path, wanted, "provided port is already allocated")}, nil
		}
	}
	return a.fixedPort(ctx, wanted, path)
}

// fixedPort takes a port the client chose.
func (a *allocation) fixedPort(ctx context.Context, port int32, path *field.Path) (field.ErrorList, error) {
	if slices.Contains(a.had.ports, port) || slices.Contains(a.fresh.ports, port) {
		return nil, nil // by another protocol, too
	}
	switch _, err := a.ports.Allocate(ctx, port); {
	case errors.Is(err, ipalloc.ErrNotInRange):
		return field.ErrorList{field.Invalid(path, port, "provided port is not in the valid range. The range of valid ports is "+a.ports.Range())}, nil
	case refused(err):
		return field.ErrorList{field.Invalid(path, port, "provided port is already allocated")}, nil
	case err != nil:
		return nil, err //nolint:wrapcheck // says what
	}
	a.fresh.ports = append(a.fresh.ports, port)
	return nil, nil
}

func (a *allocation) nextPort(ctx context.Context, path *field.Path, full string) (int32, field.ErrorList, error) {
	n, err := a.ports.Allocate(ctx, 0)
	if refused(err) {
		return 0, field.ErrorList{field.InternalError(path, errors.New(full))}, nil
	}
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // says what
	}
	a.fresh.ports = append(a.fresh.ports, n)
	return n, nil, nil
}
