// Package serviceip gives Services their cluster IPs, IP families and node
// ports. It is a handler.Hook that app/ wires for services. What is taken is
// read from the stored Services themselves, so nothing leaks and nothing needs
// repair; what writes under way have chosen is remembered until they end. One
// API server may do so at a time. It starts no goroutines.
package serviceip

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Config is what a Hook needs; all fields are required.
type Config struct {
	// Services is the store of Services.
	Services store.Store
	// Ranges are the cluster's Service ranges, the primary family first.
	Ranges []netip.Prefix
	// FirstPort and Ports bound node ports.
	FirstPort, Ports int
}

// Hook allocates. It is safe for concurrent use.
type Hook struct {
	services store.Store
	ranges   []addressRange
	ports    portRange

	mu       sync.Mutex      // guards reserved, and is held while choosing
	reserved map[string]bool // chosen by writes that are not stored yet
}

// New returns a Hook.
func New(c Config) *Hook {
	h := &Hook{services: c.Services, ports: portRange{first: c.FirstPort, size: c.Ports}, reserved: map[string]bool{}}
	for _, prefix := range c.Ranges {
		h.ranges = append(h.ranges, newAddressRange(prefix))
	}
	return h
}

// Begin implements handler.Hook.
func (h *Hook) Begin(ctx context.Context, req handler.HookRequest) (func(bool), error) {
	service, ok := req.New.(*corev1.Service)
	if !ok || req.Operation == admission.Delete || req.Subresource != "" || service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, nil //nolint:nilnil // nothing to allocate, nothing to finish
	}
	errs := h.setFamilies(&service.Spec)
	if len(errs) > 0 {
		return nil, invalid(service, errs)
	}
	if old, isService := req.Old.(*corev1.Service); isService && complete(&service.Spec) && holdsNothingNew(&service.Spec, &old.Spec) {
		return nil, nil //nolint:nilnil // the usual update: all is there already
	}
	a := &allocation{hook: h, taken: map[string]bool{}, own: map[string]bool{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := a.load(ctx, service); err != nil {
		return nil, err
	}
	if old, isService := req.Old.(*corev1.Service); isService {
		for _, key := range keysOf(&old.Spec) {
			a.own[key] = true
		}
	}
	errs = a.addresses(&service.Spec)
	errs = append(errs, a.nodePorts(&service.Spec)...)
	if len(errs) > 0 {
		return nil, invalid(service, errs)
	}
	for _, key := range a.chosen {
		h.reserved[key] = true
	}
	return func(bool) { h.release(a.chosen) }, nil
}

// release forgets reservations: what was stored is found there from now on.
func (h *Hook) release(keys []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		delete(h.reserved, key)
	}
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
		spec.IPFamilies = []corev1.IPFamily{h.ranges[0].family()}
	}
	if headlessWithoutSelector {
		if len(spec.IPFamilies) == 1 && *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
			spec.IPFamilies = append(spec.IPFamilies, other(spec.IPFamilies[0]))
		}
		return nil // its endpoints are somebody else's: any family may be named
	}
	var errs field.ErrorList
	for i, family := range spec.IPFamilies {
		if h.rangeOf(family) == nil {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	switch *spec.IPFamilyPolicy {
	case corev1.IPFamilyPolicyRequireDualStack:
		if len(h.ranges) < 2 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
		}
	case corev1.IPFamilyPolicySingleStack:
		return errs
	}
	if len(h.ranges) == 2 && len(spec.IPFamilies) == 1 {
		spec.IPFamilies = append(spec.IPFamilies, other(spec.IPFamilies[0]))
	}
	return errs
}

func (h *Hook) rangeOf(family corev1.IPFamily) *addressRange {
	for i := range h.ranges {
		if h.ranges[i].family() == family {
			return &h.ranges[i]
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

// complete says that nothing is left to allocate.
func complete(spec *corev1.ServiceSpec) bool {
	if spec.ClusterIP == "" || spec.ClusterIP != corev1.ClusterIPNone && len(spec.ClusterIPs) < len(spec.IPFamilies) {
		return false
	}
	if needsHealthPort(spec) && spec.HealthCheckNodePort == 0 {
		return false
	}
	for _, port := range spec.Ports {
		if needsNodePorts(spec) && port.NodePort == 0 {
			return false
		}
	}
	return true
}

func holdsNothingNew(spec, old *corev1.ServiceSpec) bool {
	had := map[string]bool{}
	for _, key := range keysOf(old) {
		had[key] = true
	}
	for _, key := range keysOf(spec) {
		if !had[key] {
			return false
		}
	}
	return true
}

func needsNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort ||
		spec.Type == corev1.ServiceTypeLoadBalancer && ptr.Deref(spec.AllocateLoadBalancerNodePorts, true)
}

func needsHealthPort(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// keysOf lists what a Service holds: addresses, and node ports by protocol.
func keysOf(spec *corev1.ServiceSpec) []string {
	var keys []string
	for _, ip := range spec.ClusterIPs {
		if ip != corev1.ClusterIPNone && ip != "" {
			keys = append(keys, ip)
		}
	}
	for _, port := range spec.Ports {
		if port.NodePort != 0 {
			keys = append(keys, portKey(port.Protocol, port.NodePort))
		}
	}
	if spec.HealthCheckNodePort != 0 {
		keys = append(keys, portKey(corev1.ProtocolTCP, spec.HealthCheckNodePort))
	}
	return keys
}

func portKey(protocol corev1.Protocol, port int32) string {
	return fmt.Sprintf("%s/%d", protocol, port)
}
