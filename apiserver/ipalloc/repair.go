package ipalloc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

const (
	// DefaultRepairInterval is upstream's.
	DefaultRepairInterval = 3 * time.Minute
	// patience is how many rounds in a row see something leaked before it is
	// released: an allocation comes before its Service is stored, in whichever
	// API server, and no write takes several rounds.
	patience = 3
	// firstRetry is the pause after a first round that failed.
	firstRetry = time.Second
)

// Repair brings allocations in line with the stored Services: what a crash
// between allocating and storing leaked is released, what is missing is
// claimed again. A component.Runnable; several may run on one etcd.
type Repair struct {
	// Services is their store; required.
	Services store.Store
	// IPAddresses is their store; nil when addresses are not allocated here.
	IPAddresses store.Store
	// Families allocate from IPAddresses; one per family.
	Families []*Addresses
	// Ports; nil when not allocated here.
	Ports *Ports
	// Interval between rounds; 0 means DefaultRepairInterval.
	Interval time.Duration
	// Logger; nil means slog.Default().
	Logger *slog.Logger

	// leaks counts the rounds in a row that saw something leaked, by its name.
	leaks map[string]int
	done  atomic.Bool
}

// Ready is nil once a round succeeded: before, what Services hold may not be
// allocated.
func (r *Repair) Ready() error {
	if !r.done.Load() {
		return errors.New("allocated service addresses are not checked yet")
	}
	return nil
}

// Run repairs at once and then at intervals, until ctx ends. A failed round is
// logged and made up for by the next.
func (r *Repair) Run(ctx context.Context) error {
	interval := r.Interval
	if interval <= 0 {
		interval = DefaultRepairInterval
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := r.Round(ctx)
		switch {
		case err == nil:
			r.done.Store(true)
		case ctx.Err() == nil:
			r.logger().Error("service addresses and ports not repaired", "err", err)
		}
		if r.done.Load() {
			timer.Reset(interval)
		} else {
			timer.Reset(min(firstRetry, interval))
		}
	}
}

func (r *Repair) logger() *slog.Logger {
	if r.Logger == nil {
		return slog.Default()
	}
	return r.Logger
}

// Round repairs once.
func (r *Repair) Round(ctx context.Context) error {
	// Allocations are read before Services: what is allocated by then and has
	// no Service is leaked or on its way, and what a Service holds that is not
	// allocated is missing or was allocated since, which claiming finds out.
	allocated, err := r.allocated(ctx)
	if err != nil {
		return err
	}
	page, err := r.Services.List(ctx, store.Query{Consistency: store.Consistency{AtLeast: store.Latest}})
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	leaks := map[string]int{}
	errs := []error{
		r.addresses(ctx, page, allocated, leaks),
		r.ports(ctx, page, leaks),
	}
	r.leaks = leaks
	return errors.Join(errs...)
}

func (r *Repair) allocated(ctx context.Context) ([]*store.Item, error) {
	if r.IPAddresses == nil {
		return nil, nil
	}
	page, err := r.IPAddresses.List(ctx, store.Query{Consistency: store.Consistency{AtLeast: store.Latest}})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return page.Items, nil
}

// leaked counts a round and says whether patience is over.
func (r *Repair) leaked(name string, leaks map[string]int) bool {
	leaks[name] = r.leaks[name] + 1
	return leaks[name] >= patience
}

func (r *Repair) addresses(ctx context.Context, services *store.Page, allocated []*store.Item, leaks map[string]int) error {
	holders := map[string]Owner{}
	var errs []error
	for _, item := range services.Items {
		s, ok := item.Object.(*corev1.Service)
		if !ok {
			continue
		}
		owner := Owner{Namespace: s.Namespace, Name: s.Name}
		for _, text := range s.Spec.ClusterIPs {
			address, err := netip.ParseAddr(text)
			if err != nil {
				continue // "None"
			}
			if first, twice := holders[address.String()]; twice {
				r.logger().Error("cluster address held by two services; delete and create one of them",
					"address", text, "service", owner, "other", first)
				continue
			}
			holders[address.String()] = owner
			errs = append(errs, r.reclaim(ctx, owner, address, allocated))
		}
	}
	for _, item := range allocated {
		address, ok := item.Object.(*networkingv1.IPAddress)
		if !ok || address.Labels[networkingv1.LabelManagedBy] != managedBy {
			continue
		}
		owner := ownerOf(item)
		if _, held := holders[item.Key]; held || owner == (Owner{}) || !r.leaked("address "+item.Key, leaks) {
			continue
		}
		errs = append(errs, r.release(ctx, item, owner))
	}
	return errors.Join(errs...)
}

// reclaim makes the IPAddress of an address that a Service holds say so.
func (r *Repair) reclaim(ctx context.Context, owner Owner, address netip.Addr, allocated []*store.Item) error {
	family := r.family(address)
	if family == nil || has(allocated, address.String(), owner) {
		return nil // outside all ranges: an older configuration's
	}
	err := family.claim(ctx, owner, address)
	if err == nil {
		r.logger().Info("cluster address of a service was not allocated, it is now", "address", address.String(), "service", owner)
		return nil
	}
	if !errors.Is(err, ErrAllocated) {
		return err
	}
	// It is allocated to a Service that does not hold it.
	_, err = r.IPAddresses.Update(ctx, address.String(), func(current *store.Item) (resource.Object, error) {
		next := family.object(owner, address)
		if current != nil {
			next.ObjectMeta = *current.Object.(*networkingv1.IPAddress).ObjectMeta.DeepCopy() //nolint:forcetypeassert // its store
		}
		return next, nil
	})
	if err != nil {
		return fmt.Errorf("give address %s to its service: %w", address, err)
	}
	r.logger().Info("cluster address was allocated to another service than holds it", "address", address.String(), "service", owner)
	return nil
}

// has finds an allocation; items are in key order but few are looked for, and
// the common case is decided here without a write.
func has(allocated []*store.Item, key string, owner Owner) bool {
	low, high := 0, len(allocated)
	for low < high {
		if middle := (low + high) / 2; allocated[middle].Key < key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low < len(allocated) && allocated[low].Key == key && ownerOf(allocated[low]) == owner
}

func (r *Repair) family(address netip.Addr) *Addresses {
	for _, a := range r.Families {
		if a.allocatable(address) {
			return a
		}
	}
	return nil
}

// release deletes a leaked IPAddress, unless it changed since it was seen.
func (r *Repair) release(ctx context.Context, item *store.Item, owner Owner) error {
	errChanged := errors.New("changed since")
	_, err := r.IPAddresses.Delete(ctx, item.Key, func(current *store.Item) error {
		if current.Revision != item.Revision {
			return errChanged
		}
		return nil
	})
	switch {
	case err == nil:
		r.logger().Info("cluster address that no service holds released", "address", item.Key, "service", owner)
		return nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errChanged):
		return nil
	}
	return fmt.Errorf("release leaked address %s: %w", item.Key, err)
}

func (r *Repair) ports(ctx context.Context, services *store.Page, leaks map[string]int) error {
	if r.Ports == nil {
		return nil
	}
	held := new(big.Int)
	for _, item := range services.Items {
		s, ok := item.Object.(*corev1.Service)
		if !ok {
			continue
		}
		for _, port := range wantedPorts(&s.Spec) {
			if r.Ports.contains(port) {
				held.SetBit(held, r.Ports.index(port), 1)
			}
		}
	}
	counted := map[string]bool{} // the edit may run more than once
	var missing, released []int32
	err := r.Ports.change(ctx, func(taken *big.Int) error {
		missing = r.Ports.ports(new(big.Int).AndNot(held, taken))
		released = nil
		for _, port := range r.Ports.ports(new(big.Int).AndNot(taken, held)) {
			name := fmt.Sprint("port ", port)
			over := leaks[name] >= patience
			if !counted[name] {
				counted[name] = true
				over = r.leaked(name, leaks)
			}
			if over {
				taken.SetBit(taken, r.Ports.index(port), 0)
				released = append(released, port)
			}
		}
		taken.Or(taken, held)
		return nil
	})
	if err != nil {
		return fmt.Errorf("repair ports: %w", err)
	}
	if len(missing)+len(released) > 0 {
		r.logger().Info("node ports repaired", "missing", missing, "released", released)
	}
	return nil
}
