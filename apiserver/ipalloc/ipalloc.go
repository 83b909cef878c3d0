// Package ipalloc hands out Services' cluster addresses and node ports, so
// that no two Services get the same one, also when several API servers share
// an etcd. What is taken is kept where upstream keeps it:
//
//	/registry/
//	├── ipaddresses/<address>          networking.k8s.io/v1 IPAddress, its
//	│                                  parentRef is the Service; creating it
//	│                                  is the claim
//	└── ranges/servicenodeports        core/v1 RangeAllocation: "30000-32767"
//	                                   and a bitmap of the ports taken
//
// Each range has a lower band that is given out automatically only when the
// rest is full, so that a client that picks its own number from there rarely
// meets one that was drawn (KEP-3070, KEP-3668).
//
//	Addresses, Ports: Allocate, Release, Has ◄── the hook on Services
//	Repair: brings them in line with the stored Services ◄── app/
//
// It calls the store contract. Goroutines: Repair's in its Run.
package ipalloc

import (
	"errors"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Errors of allocators; test with errors.Is.
var (
	// ErrAllocated: the wanted address or port is somebody else's.
	ErrAllocated = errors.New("already allocated")
	// ErrNotInRange: it is not one that can be allocated here.
	ErrNotInRange = errors.New("not in the valid range")
	// ErrFull: nothing is left.
	ErrFull = errors.New("range is full")
)

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// Owner names the Service that holds an address.
type Owner struct {
	Namespace, Name string
}

// band returns the size of the lower band of size numbers: a step-th of them,
// at least least and at most most; none in a range too small to be divided.
func band(size, least, step, most uint64) uint64 {
	if size <= least {
		return 0
	}
	return min(max(least, size/step), most)
}

// draw tries the numbers 0..size-1 until try accepts one or fails: those above
// the lower band from a random one on, then the lower band likewise. It
// returns ErrFull when none is accepted.
func draw(size, lower uint64, random func(n uint64) uint64, try func(i uint64) (bool, error)) error {
	for _, part := range [2]struct{ first, count uint64 }{{lower, size - lower}, {0, lower}} {
		if part.count == 0 {
			continue
		}
		start := random(part.count)
		for i := range part.count {
			ok, err := try(part.first + (start+i)%part.count)
			if ok || err != nil {
				return err
			}
		}
	}
	return ErrFull
}
