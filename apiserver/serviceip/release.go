package serviceip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/apiserver/ipalloc"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// releaseTimeout bounds giving back; Repair makes up for what fails.
const releaseTimeout = 10 * time.Second

// holdings are the addresses and node ports of a Service.
type holdings struct {
	addresses []netip.Addr
	ports     []int32
}

func holdingsOf(spec *corev1.ServiceSpec) holdings {
	var h holdings
	for _, text := range spec.ClusterIPs {
		if address, err := netip.ParseAddr(text); err == nil { // not "None"
			h.addresses = append(h.addresses, address)
		}
	}
	for _, port := range spec.Ports {
		if port.NodePort != 0 && !slices.Contains(h.ports, port.NodePort) {
			h.ports = append(h.ports, port.NodePort)
		}
	}
	if spec.HealthCheckNodePort != 0 {
		h.ports = append(h.ports, spec.HealthCheckNodePort)
	}
	return h
}

func (h holdings) empty() bool { return len(h.addresses)+len(h.ports) == 0 }

// without returns what is in h and not in other.
func (h holdings) without(other holdings) holdings {
	var out holdings
	for _, address := range h.addresses {
		if !slices.Contains(other.addresses, address) {
			out.addresses = append(out.addresses, address)
		}
	}
	for _, port := range h.ports {
		if !slices.Contains(other.ports, port) {
			out.ports = append(out.ports, port)
		}
	}
	return out
}

// claims remembers at which revision a Service claimed addresses that it is
// about to give up: one claimed again in between stays.
func (h *Hook) claims(ctx context.Context, owner ipalloc.Owner, given holdings) (map[netip.Addr]int64, error) {
	revisions := map[netip.Addr]int64{}
	for _, address := range given.addresses {
		family := familyIn(h.families, familyOf(address))
		if family == nil {
			continue // of an older configuration
		}
		revision, err := family.Claimed(ctx, owner, address)
		if err != nil {
			return nil, err //nolint:wrapcheck // says what
		}
		if revision != 0 {
			revisions[address] = revision
		}
	}
	return revisions, nil
}

// release gives back what the stored Service does not hold. A write that
// failed may have been stored all the same, so that is read, not concluded.
func (h *Hook) release(ctx context.Context, owner ipalloc.Owner, given holdings, revisions map[netip.Addr]int64) {
	if given.empty() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := h.giveBack(ctx, owner, given, revisions); err != nil {
		h.logger.Warn("service addresses and ports not released, repair will", "service", owner, "err", err)
	}
}

func (h *Hook) giveBack(ctx context.Context, owner ipalloc.Owner, given holdings, revisions map[netip.Addr]int64) error {
	item, err := h.services.Get(ctx, owner.Namespace+"/"+owner.Name, store.Consistency{AtLeast: store.Latest})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read service: %w", err)
	}
	if err == nil {
		if stored, ok := item.Object.(*corev1.Service); ok {
			given = given.without(holdingsOf(&stored.Spec))
		}
	}
	var errs []error
	for _, address := range given.addresses {
		family := familyIn(h.families, familyOf(address))
		revision, known := revisions[address]
		if family == nil || revisions != nil && !known {
			continue
		}
		errs = append(errs, family.Release(ctx, owner, address, revision))
	}
	if len(given.ports) > 0 {
		errs = append(errs, h.ports.Release(ctx, given.ports...))
	}
	return errors.Join(errs...)
}
