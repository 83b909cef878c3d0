//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// kernel is what we use of *moby.Handle.
type kernel interface {
	GetServices() ([]*moby.Service, error)
	NewService(*moby.Service) error
	UpdateService(*moby.Service) error
	DelService(*moby.Service) error
	GetDestinations(*moby.Service) ([]*moby.Destination, error)
	NewDestination(*moby.Service, *moby.Destination) error
	UpdateDestination(*moby.Service, *moby.Destination) error
	DelDestination(*moby.Service, *moby.Destination) error
}

// servers are the virtual servers in the kernel, as we left them.
type servers struct {
	known map[Key]*known
}

type known struct {
	affinity time.Duration
	// destinations by whether they still take connections: false is one that
	// finishes those it has.
	destinations map[netip.AddrPort]bool
}

// readServers reads the servers that are ours.
func readServers(k kernel, ours func(Key) bool) (*servers, error) {
	services, err := k.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	s := &servers{known: map[Key]*known{}}
	for _, service := range services {
		key := keyOf(service)
		if !ours(key) {
			continue
		}
		destinations, err := k.GetDestinations(service)
		if err != nil {
			return nil, fmt.Errorf("list destinations of %v: %w", key, err)
		}
		entry := &known{destinations: map[netip.AddrPort]bool{}}
		if service.Flags&persistent != 0 {
			entry.affinity = time.Duration(service.Timeout) * time.Second
		}
		for _, d := range destinations {
			if addr, ok := netip.AddrFromSlice(d.Address); ok {
				entry.destinations[netip.AddrPortFrom(addr.Unmap(), d.Port)] = d.Weight > 0
			}
		}
		s.known[key] = entry
	}
	return s, nil
}

// add makes and changes servers and adds destinations, and takes nothing away
// but new connections from destinations that go.
func (s *servers) add(k kernel, want []Server) error {
	for i := range want {
		if err := s.addOne(k, &want[i]); err != nil {
			return fmt.Errorf("virtual server %v: %w", want[i].Key, err)
		}
	}
	return nil
}

func (s *servers) addOne(k kernel, want *Server) error {
	service := serviceOf(want.Key, want.Affinity)
	have := s.known[want.Key]
	if have == nil {
		if err := k.NewService(service); err != nil {
			return fmt.Errorf("add: %w", err)
		}
		have = &known{affinity: want.Affinity, destinations: map[netip.AddrPort]bool{}}
		s.known[want.Key] = have
	} else if have.affinity != want.Affinity {
		if err := k.UpdateService(service); err != nil {
			return fmt.Errorf("change: %w", err)
		}
		have.affinity = want.Affinity
	}
	wanted := map[netip.AddrPort]bool{}
	for _, to := range want.Destinations {
		wanted[to] = true
		takes, there := have.destinations[to]
		var err error
		switch {
		case !there:
			err = k.NewDestination(service, destinationOf(to, 1))
		case !takes:
			err = k.UpdateDestination(service, destinationOf(to, 1))
		}
		if err != nil {
			return fmt.Errorf("add destination %s: %w", to, err)
		}
		have.destinations[to] = true
	}
	for to, takes := range have.destinations {
		if takes && !wanted[to] {
			if err := k.UpdateDestination(service, destinationOf(to, 0)); err != nil {
				return fmt.Errorf("retire destination %s: %w", to, err)
			}
			have.destinations[to] = false
		}
	}
	return nil
}

// removeOthers removes servers that are not wanted, and destinations that have
// finished.
func (s *servers) removeOthers(k kernel, want []Server) error {
	wanted := make(map[Key]bool, len(want))
	for i := range want {
		wanted[want[i].Key] = true
	}
	for key, have := range s.known {
		service := serviceOf(key, have.affinity)
		if !wanted[key] {
			if err := k.DelService(service); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove virtual server %v: %w", key, err)
			}
			delete(s.known, key)
		} else if err := have.removeFinished(k, service); err != nil {
			return fmt.Errorf("virtual server %v: %w", key, err)
		}
	}
	return nil
}

// removeFinished removes retired destinations without connections. UDP has no
// end of a connection, so that nothing is waited for.
func (h *known) removeFinished(k kernel, service *moby.Service) error {
	retired := false
	for _, takes := range h.destinations {
		retired = retired || !takes
	}
	if !retired {
		return nil
	}
	all, err := k.GetDestinations(service)
	if err != nil {
		return fmt.Errorf("list destinations: %w", err)
	}
	for _, d := range all {
		addr, _ := netip.AddrFromSlice(d.Address) // one that is none is not ours
		to := netip.AddrPortFrom(addr.Unmap(), d.Port)
		takes, ours := h.destinations[to]
		if !ours || takes || d.ActiveConnections > 0 && service.Protocol != uint16(ruleset.UDP) {
			continue
		}
		if err := k.DelDestination(service, destinationOf(to, 0)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove destination %s: %w", to, err)
		}
		delete(h.destinations, to)
	}
	return nil
}

// persistent is IP_VS_SVC_F_PERSISTENT (include/uapi/linux/ip_vs.h).
const persistent = 1

func serviceOf(key Key, affinity time.Duration) *moby.Service {
	s := &moby.Service{
		Protocol: uint16(key.Protocol), Port: key.Port, FWMark: key.Mark, SchedName: moby.RoundRobin,
		AddressFamily: unix.AF_INET, Netmask: math.MaxUint32,
	}
	if key.Address.IsValid() {
		s.Address = key.Address.AsSlice()
	}
	if key.Six {
		s.AddressFamily, s.Netmask = unix.AF_INET6, 128
	}
	if affinity > 0 {
		s.Flags, s.Timeout = persistent, uint32(affinity/time.Second)
	}
	return s
}

func keyOf(s *moby.Service) Key {
	key := Key{Six: s.AddressFamily == unix.AF_INET6, Mark: s.FWMark}
	if key.Mark == 0 {
		addr, _ := netip.AddrFromSlice(s.Address) // one that is none is not ours
		key.Address, key.Protocol, key.Port = addr.Unmap(), ruleset.Protocol(s.Protocol), s.Port
	}
	return key
}

func destinationOf(to netip.AddrPort, weight int) *moby.Destination {
	d := &moby.Destination{Address: to.Addr().AsSlice(), Port: to.Port(), Weight: weight, ConnectionFlags: moby.ConnectionFlagMasq, AddressFamily: unix.AF_INET}
	if to.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}
