package ipalloc

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// portsKey names the RangeAllocation in its store.
const portsKey = "servicenodeports"

// errUnchanged ends an update that has nothing to write.
var errUnchanged = errors.New("unchanged")

// PortsConfig shapes Ports.
type PortsConfig struct {
	// Store of RangeAllocations (StorePrefix "ranges"); required.
	Store store.Store
	// First port and how many; required.
	First, Count int
	// Random returns a number below n; nil means math/rand's.
	Random func(n uint64) uint64
}

// Ports allocates node ports. Safe for concurrent use, also by several
// processes: every change is one conditional write of the bitmap.
type Ports struct {
	store  store.Store
	first  int
	count  int
	lower  uint64
	random func(n uint64) uint64
}

// NewPorts returns an allocator. It does no I/O.
func NewPorts(c PortsConfig) (*Ports, error) {
	if c.Store == nil || c.First < 1 || c.Count < 1 || c.First+c.Count-1 > 65535 {
		return nil, fmt.Errorf("configure port allocator: Store and a range within 1-65535 are required, not %d+%d", c.First, c.Count)
	}
	if c.Random == nil {
		c.Random = rand.Uint64N
	}
	return &Ports{store: c.Store, first: c.First, count: c.Count, lower: band(uint64(c.Count), 16, 32, 128), random: c.Random}, nil
}

// Rehearse returns an allocator that finds out what this one would do, and
// keeps nothing.
func (p *Ports) Rehearse() *Ports {
	dry := *p
	dry.store = newRehearsal(p.store)
	return &dry
}

// Range returns the range as upstream writes it: "30000-32767".
func (p *Ports) Range() string { return fmt.Sprintf("%d-%d", p.first, p.first+p.count-1) }

// Allocate takes wanted, or any port if it is 0: ErrNotInRange, ErrAllocated,
// ErrFull.
func (p *Ports) Allocate(ctx context.Context, wanted int32) (int32, error) {
	if wanted != 0 && !p.contains(wanted) {
		return 0, fmt.Errorf("port %d of %s: %w", wanted, p.Range(), ErrNotInRange)
	}
	got := wanted
	err := p.change(ctx, func(taken *big.Int) error {
		if wanted != 0 {
			if taken.Bit(p.index(wanted)) == 1 {
				return fmt.Errorf("port %d: %w", wanted, ErrAllocated)
			}
			taken.SetBit(taken, p.index(wanted), 1)
			return nil
		}
		return draw(uint64(p.count), p.lower, p.random, func(i uint64) (bool, error) {
			if taken.Bit(int(i)) == 1 {
				return false, nil
			}
			taken.SetBit(taken, int(i), 1)
			got = int32(p.first + int(i))
			return true, nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("allocate from ports %s: %w", p.Range(), err)
	}
	return got, nil
}

// Release gives ports back, in one write. Those that are not taken or not in
// the range are left alone.
func (p *Ports) Release(ctx context.Context, ports ...int32) error {
	err := p.change(ctx, func(taken *big.Int) error {
		for _, port := range ports {
			if p.contains(port) {
				taken.SetBit(taken, p.index(port), 0)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release ports %v: %w", ports, err)
	}
	return nil
}

// Has reports whether a port is taken.
func (p *Ports) Has(ctx context.Context, port int32) (bool, error) {
	if !p.contains(port) {
		return false, nil
	}
	item, err := p.store.Get(ctx, portsKey, store.Consistency{AtLeast: store.Latest})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read ports taken: %w", err)
	}
	taken, err := p.bitmap(item)
	if err != nil {
		return false, err
	}
	return taken.Bit(p.index(port)) == 1, nil
}

func (p *Ports) contains(port int32) bool {
	return int(port) >= p.first && int(port) < p.first+p.count
}

func (p *Ports) index(port int32) int { return int(port) - p.first }

// change writes what edit makes of the bitmap.
func (p *Ports) change(ctx context.Context, edit func(taken *big.Int) error) error {
	_, err := p.store.Update(ctx, portsKey, func(current *store.Item) (resource.Object, error) {
		taken, err := p.bitmap(current)
		if err != nil {
			return nil, err
		}
		before := new(big.Int).Set(taken)
		if err := edit(taken); err != nil {
			return nil, err
		}
		if current != nil && before.Cmp(taken) == 0 && current.Object.(*corev1.RangeAllocation).Range == p.Range() { //nolint:forcetypeassert // bitmap saw it
			return nil, errUnchanged
		}
		next := &corev1.RangeAllocation{}
		if current != nil {
			next.ObjectMeta = *current.Object.(*corev1.RangeAllocation).ObjectMeta.DeepCopy() //nolint:forcetypeassert // bitmap saw it
		}
		next.Range, next.Data = p.Range(), taken.Bytes()
		return next, nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err //nolint:wrapcheck // wrapped by the callers
}

// bitmap reads what is taken; a missing object is an empty one. When the
// configured range is not the stored one, what lies in both is carried over.
func (p *Ports) bitmap(item *store.Item) (*big.Int, error) {
	taken := new(big.Int)
	if item == nil {
		return taken, nil
	}
	stored, ok := item.Object.(*corev1.RangeAllocation)
	if !ok {
		return nil, fmt.Errorf("read ports taken: stored is %T", item.Object)
	}
	taken.SetBytes(stored.Data)
	if stored.Range == p.Range() || stored.Range == "" {
		return taken, nil
	}
	var first, last int
	if _, err := fmt.Sscanf(stored.Range, "%d-%d", &first, &last); err != nil {
		return nil, fmt.Errorf("read ports taken: stored range %q: %w", stored.Range, err)
	}
	moved := new(big.Int)
	for i := range last - first + 1 {
		if port := int32(first + i); taken.Bit(i) == 1 && p.contains(port) {
			moved.SetBit(moved, p.index(port), 1)
		}
	}
	return moved, nil
}

// ports lists a bitmap's.
func (p *Ports) ports(taken *big.Int) []int32 {
	var out []int32
	for i := range p.count {
		if taken.Bit(i) == 1 {
			out = append(out, int32(p.first+i))
		}
	}
	return out
}

// wanted lists the node ports in a Service's spec, each once.
func wantedPorts(spec *corev1.ServiceSpec) []int32 {
	var out []int32
	for _, port := range spec.Ports {
		if port.NodePort != 0 {
			out = append(out, port.NodePort)
		}
	}
	if spec.HealthCheckNodePort != 0 {
		out = append(out, spec.HealthCheckNodePort)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
