// Package serviceip gives Services their cluster IPs, IP families and node
// ports. It is a handler.Hook that app/ wires for services: it allocates with
// ipalloc before a Service is stored and releases when the write failed, or
// when a stored write gave something up. What a crash leaves behind ipalloc's
// Repair releases. It starts no goroutines.
package serviceip

import (
	"context"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/ipalloc"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Config is what a Hook needs.
type Config struct {
	// Services is the store of Services; required.
	Services store.Store
	// Families allocate cluster IPs, the cluster's primary family first;
	// required.
	Families []*ipalloc.Addresses
	// Ports allocates node ports; required.
	Ports *ipalloc.Ports
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Hook allocates. It is safe for concurrent use, also by several processes.
type Hook struct {
	services store.Store
	families []*ipalloc.Addresses
	ports    *ipalloc.Ports
	logger   *slog.Logger
}

// New returns a Hook.
func New(c Config) *Hook {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Hook{services: c.Services, families: c.Families, ports: c.Ports, logger: c.Logger}
}

// Begin implements handler.Hook.
func (h *Hook) Begin(ctx context.Context, req handler.HookRequest) (func(bool), error) {
	old, _ := req.Old.(*corev1.Service)
	if req.Operation == admission.Delete && old != nil {
		return h.remove(ctx, old)
	}
	service, ok := req.New.(*corev1.Service)
	if !ok || req.Subresource != "" {
		return nil, nil //nolint:nilnil // nothing to allocate, nothing to finish
	}
	a := &allocation{families: h.families, ports: h.ports, owner: ipalloc.Owner{Namespace: service.Namespace, Name: service.Name}}
	if old != nil {
		a.had = holdingsOf(&old.Spec)
	}
	if req.DryRun {
		a.rehearse()
	}
	if service.Spec.Type != corev1.ServiceTypeExternalName {
		if err := h.allocate(ctx, a, service); err != nil {
			if !req.DryRun {
				h.release(ctx, a.owner, a.fresh, nil)
			}
			return nil, err
		}
	}
	given := a.had.without(holdingsOf(&service.Spec))
	if req.DryRun || given.empty() && a.fresh.empty() {
		return nil, nil //nolint:nilnil // the usual update: all is there already
	}
	claimed, err := h.claims(ctx, a.owner, given)
	if err != nil {
		h.release(ctx, a.owner, a.fresh, nil)
		return nil, err
	}
	return func(success bool) {
		if success {
			h.release(ctx, a.owner, given, claimed)
		} else {
			h.release(ctx, a.owner, a.fresh, nil)
		}
	}, nil
}

func (h *Hook) allocate(ctx context.Context, a *allocation, service *corev1.Service) error {
	if errs := h.setFamilies(&service.Spec); len(errs) > 0 {
		return invalid(service, errs)
	}
	errs, err := a.addresses(ctx, &service.Spec)
	if err == nil {
		var more field.ErrorList
		more, err = a.nodePorts(ctx, &service.Spec)
		errs = append(errs, more...)
	}
	if err != nil {
		return err
	}
	if len(errs) > 0 {
		return invalid(service, errs)
	}
	return nil
}

// remove releases everything once the Service is gone.
func (h *Hook) remove(ctx context.Context, old *corev1.Service) (func(bool), error) {
	owner, given := ipalloc.Owner{Namespace: old.Namespace, Name: old.Name}, holdingsOf(&old.Spec)
	if given.empty() {
		return nil, nil //nolint:nilnil // nothing to finish
	}
	claimed, err := h.claims(ctx, owner, given)
	if err != nil {
		return nil, err
	}
	return func(success bool) {
		if success {
			h.release(ctx, owner, given, claimed)
		}
	}, nil
}

// rehearse lets a dry run allocate nothing.
func (a *allocation) rehearse() {
	families := make([]*ipalloc.Addresses, len(a.families))
	for i, family := range a.families {
		families[i] = family.Rehearse()
	}
	a.families, a.ports = families, a.ports.Rehearse()
}

func invalid(s *corev1.Service, errs field.ErrorList) error {
	return lifecycle.Invalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, errs) //nolint:wrapcheck // a Status
}

// setFamilies fills ipFamilyPolicy and ipFamilies from what the Service asks
// for and the cluster has (API reference, Service v1).
func (h *Hook) setFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	path := field.NewPath("spec")
	headlessWithoutSelector := spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0
	if spec.IPFamilyPolicy == nil {
		switch {
		case len(spec.ClusterIPs) > 1 || len(spec.IPFamilies) > 1 || headlessWithoutSelector:
			spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
		default:
			spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
		}
	}
	for i := len(spec.IPFamilies); i < len(spec.ClusterIPs); i++ {
		address, err := netip.ParseAddr(spec.ClusterIPs[i])
		if err != nil {
			break // None, or text that validation has refused
		}
		spec.IPFamilies = append(spec.IPFamilies, familyOf(address))
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{familyOf(h.families[0].Range().Addr())}
	}
	if headlessWithoutSelector {
		if len(spec.IPFamilies) == 1 && *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
			spec.IPFamilies = append(spec.IPFamilies, other(spec.IPFamilies[0]))
		}
		return nil // its endpoints are somebody else's: any family may be named
	}
	var errs field.ErrorList
	for i, family := range spec.IPFamilies {
		if familyIn(h.families, family) == nil {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	switch *spec.IPFamilyPolicy {
	case corev1.IPFamilyPolicyRequireDualStack:
		if len(h.families) < 2 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
		}
	case corev1.IPFamilyPolicySingleStack:
		return errs
	}
	if len(h.families) == 2 && len(spec.IPFamilies) == 1 {
		spec.IPFamilies = append(spec.IPFamilies, other(spec.IPFamilies[0]))
	}
	return errs
}

// familyIn returns the allocator of a family, or nil.
func familyIn(all []*ipalloc.Addresses, family corev1.IPFamily) *ipalloc.Addresses {
	for _, a := range all {
		if familyOf(a.Range().Addr()) == family {
			return a
		}
	}
	return nil
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func needsNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort ||
		spec.Type == corev1.ServiceTypeLoadBalancer && ptr.Deref(spec.AllocateLoadBalancerNodePorts, true)
}

func needsHealthPort(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
