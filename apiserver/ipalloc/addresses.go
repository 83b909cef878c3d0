package ipalloc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// managedBy marks the IPAddresses that Services' allocation made; others are
// left alone. The value is upstream's, whose repair looks for it too.
const managedBy = "ipallocator.k8s.io"

// mostAddresses bounds what is drawn from of a large IPv6 range; any address
// of it can still be asked for.
const mostAddresses = 1 << 32

// AddressesConfig shapes Addresses.
type AddressesConfig struct {
	// Store of IPAddresses; required.
	Store store.Store
	// Range of addresses; required, at most /30 for IPv4 and /126 for IPv6.
	Range netip.Prefix
	// Reserved are never drawn; they can be asked for.
	Reserved []netip.Addr
	// Random returns a number below n; nil means math/rand's.
	Random func(n uint64) uint64
	// Now is the clock of creation times; nil means time.Now.
	Now func() time.Time
}

// Addresses allocates cluster addresses of one family. Safe for concurrent
// use, also by several processes.
type Addresses struct {
	store  store.Store
	prefix netip.Prefix
	// size is how many are drawn from: the first is the one after the network
	// address.
	size, lower uint64
	reserved    []netip.Addr
	random      func(n uint64) uint64
	now         func() time.Time
}

// NewAddresses returns an allocator. It does no I/O.
func NewAddresses(c AddressesConfig) (*Addresses, error) {
	if c.Store == nil || !c.Range.IsValid() {
		return nil, errors.New("configure address allocator: Store and Range are required")
	}
	bits := c.Range.Addr().BitLen() - c.Range.Bits()
	if bits < 2 {
		return nil, fmt.Errorf("configure address allocator: range %s is too small", c.Range)
	}
	a := &Addresses{store: c.Store, prefix: c.Range.Masked(), size: mostAddresses, reserved: c.Reserved, random: c.Random, now: c.Now}
	if bits < 32 || a.prefix.Addr().Is4() {
		a.size = 1<<bits - 1 // not the network address
	}
	if a.prefix.Addr().Is4() {
		a.size-- // nor the broadcast address
	}
	a.lower = band(a.size, 16, 16, 256)
	if a.random == nil {
		a.random = rand.Uint64N
	}
	if a.now == nil {
		a.now = time.Now
	}
	return a, nil
}

// Rehearse returns an allocator that finds out what this one would do, and
// keeps nothing.
func (a *Addresses) Rehearse() *Addresses {
	dry := *a
	dry.store = newRehearsal(a.store)
	return &dry
}

// Range returns the range allocated from.
func (a *Addresses) Range() netip.Prefix { return a.prefix }

// Allocate claims wanted, or any address if wanted is the zero Addr, for a
// Service: ErrNotInRange, ErrAllocated, ErrFull. What owner already holds can
// be claimed again.
func (a *Addresses) Allocate(ctx context.Context, owner Owner, wanted netip.Addr) (netip.Addr, error) {
	if wanted.IsValid() {
		if !a.allocatable(wanted) {
			return netip.Addr{}, fmt.Errorf("address %s of %s: %w", wanted, a.prefix, ErrNotInRange)
		}
		return wanted, a.claim(ctx, owner, wanted)
	}
	var got netip.Addr
	err := draw(a.size, a.lower, a.random, func(i uint64) (bool, error) {
		got = a.at(i)
		if slices.Contains(a.reserved, got) {
			return false, nil
		}
		// A cached read spares the attempt on most of what is taken.
		if _, err := a.store.Get(ctx, got.String(), store.Consistency{}); err == nil {
			return false, nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return false, fmt.Errorf("read address %s: %w", got, err)
		}
		_, err := a.store.Create(ctx, got.String(), a.object(owner, got))
		if errors.Is(err, store.ErrExists) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("claim address %s: %w", got, err)
		}
		return true, nil
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("allocate from %s: %w", a.prefix, err)
	}
	return got, nil
}

// claim makes the IPAddress of one address. One that owner has already is
// written anew, so that a release that was decided on before spares it.
func (a *Addresses) claim(ctx context.Context, owner Owner, address netip.Addr) error {
	_, err := a.store.Create(ctx, address.String(), a.object(owner, address))
	if errors.Is(err, store.ErrExists) {
		_, err = a.store.Update(ctx, address.String(), func(current *store.Item) (resource.Object, error) {
			if current != nil && ownerOf(current) != owner {
				return nil, ErrAllocated
			}
			return a.object(owner, address), nil
		})
	}
	if err != nil {
		return fmt.Errorf("claim address %s: %w", address, err)
	}
	return nil
}

// Release gives back an address that owner holds; one that it does not hold,
// or has claimed again since revision (0: whenever), is left alone, which is
// no error.
func (a *Addresses) Release(ctx context.Context, owner Owner, address netip.Addr, revision int64) error {
	errOther := errors.New("another claim")
	_, err := a.store.Delete(ctx, address.String(), func(current *store.Item) error {
		if ownerOf(current) != owner || revision != 0 && current.Revision != revision {
			return errOther
		}
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, errOther) {
		return fmt.Errorf("release address %s: %w", address, err)
	}
	return nil
}

// Claimed returns the revision at which owner claimed an address; 0 when it
// does not hold it.
func (a *Addresses) Claimed(ctx context.Context, owner Owner, address netip.Addr) (int64, error) {
	item, err := a.store.Get(ctx, address.String(), store.Consistency{AtLeast: store.Latest})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, fmt.Errorf("read address %s: %w", address, err)
	}
	if err != nil || ownerOf(item) != owner {
		return 0, nil
	}
	return item.Revision, nil
}

// Has reports who holds an address; ok is false when nobody does.
func (a *Addresses) Has(ctx context.Context, address netip.Addr) (owner Owner, ok bool, err error) {
	item, err := a.store.Get(ctx, address.String(), store.Consistency{AtLeast: store.Latest})
	if errors.Is(err, store.ErrNotFound) {
		return Owner{}, false, nil
	}
	if err != nil {
		return Owner{}, false, fmt.Errorf("read address %s: %w", address, err)
	}
	return ownerOf(item), true, nil
}

// allocatable says whether an address may be claimed at all.
func (a *Addresses) allocatable(address netip.Addr) bool {
	if address.Zone() != "" || !a.prefix.Contains(address) || address == a.prefix.Addr() {
		return false
	}
	return !address.Is4() || a.prefix.Contains(address.Next()) // not the last: broadcast
}

// at returns the i-th address that is drawn from.
func (a *Addresses) at(i uint64) netip.Addr {
	base := a.prefix.Addr().As16()
	low := binary.BigEndian.Uint64(base[8:]) + i + 1
	binary.BigEndian.PutUint64(base[8:], low)
	address := netip.AddrFrom16(base)
	if a.prefix.Addr().Is4() {
		return address.Unmap()
	}
	return address
}

func (a *Addresses) object(owner Owner, address netip.Addr) *networkingv1.IPAddress {
	family := corev1.IPv6Protocol
	if address.Is4() {
		family = corev1.IPv4Protocol
	}
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: address.String(), UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(a.now()),
			Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: string(family),
				networkingv1.LabelManagedBy:       managedBy,
			},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: owner.Namespace, Name: owner.Name,
		}},
	}
}

// ownerOf is the Service an IPAddress names; zero for anything else.
func ownerOf(item *store.Item) Owner {
	address, ok := item.Object.(*networkingv1.IPAddress)
	if !ok || address.Spec.ParentRef == nil {
		return Owner{}
	}
	ref := address.Spec.ParentRef
	if ref.Group != "" || ref.Resource != "services" {
		return Owner{}
	}
	return Owner{Namespace: ref.Namespace, Name: ref.Name}
}
