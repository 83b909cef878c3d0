//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// memory is a kernel's table of virtual servers, as strict as the real one. It
// writes down what it was asked to do.
type memory struct {
	services map[Key]*moby.Service
	dests    map[Key]map[netip.AddrPort]*moby.Destination
	log      []string
}

func newMemory() *memory {
	return &memory{services: map[Key]*moby.Service{}, dests: map[Key]map[netip.AddrPort]*moby.Destination{}}
}

func at(d *moby.Destination) netip.AddrPort {
	a, _ := netip.AddrFromSlice(d.Address)
	return netip.AddrPortFrom(a, d.Port)
}

func name(k Key) string { return fmt.Sprintf("%s:%d", k.Address, k.Port) }

func (m *memory) GetServices() ([]*moby.Service, error) {
	var all []*moby.Service
	for _, s := range m.services {
		all = append(all, s)
	}
	return all, nil
}

func (m *memory) NewService(s *moby.Service) error {
	k := keyOf(s)
	if m.services[k] != nil {
		return unix.EEXIST
	}
	m.services[k], m.dests[k] = s, map[netip.AddrPort]*moby.Destination{}
	m.log = append(m.log, "add "+name(k))
	return nil
}

func (m *memory) UpdateService(s *moby.Service) error {
	k := keyOf(s)
	if m.services[k] == nil {
		return unix.ESRCH
	}
	m.services[k] = s
	m.log = append(m.log, fmt.Sprintf("change %s: %ds", name(k), s.Timeout))
	return nil
}

func (m *memory) DelService(s *moby.Service) error {
	k := keyOf(s)
	if m.services[k] == nil {
		return unix.ESRCH
	}
	delete(m.services, k)
	m.log = append(m.log, "remove "+name(k))
	return nil
}

func (m *memory) GetDestinations(s *moby.Service) ([]*moby.Destination, error) {
	var all []*moby.Destination
	for _, d := range m.dests[keyOf(s)] {
		all = append(all, d)
	}
	return all, nil
}

func (m *memory) NewDestination(s *moby.Service, d *moby.Destination) error {
	if m.dests[keyOf(s)][at(d)] != nil {
		return unix.EEXIST
	}
	m.dests[keyOf(s)][at(d)] = d
	m.log = append(m.log, fmt.Sprintf("%s add %s", name(keyOf(s)), at(d)))
	return nil
}

func (m *memory) UpdateDestination(s *moby.Service, d *moby.Destination) error {
	old := m.dests[keyOf(s)][at(d)]
	if old == nil {
		return unix.ENOENT
	}
	old.Weight = d.Weight
	m.log = append(m.log, fmt.Sprintf("%s weight %s %d", name(keyOf(s)), at(d), d.Weight))
	return nil
}

func (m *memory) DelDestination(s *moby.Service, d *moby.Destination) error {
	if m.dests[keyOf(s)][at(d)] == nil {
		return unix.ENOENT
	}
	delete(m.dests[keyOf(s)], at(d))
	m.log = append(m.log, fmt.Sprintf("%s remove %s", name(keyOf(s)), at(d)))
	return nil
}

// to syncs the memory and returns what that took.
func (m *memory) to(t *testing.T, s *servers, want []Server) []string {
	t.Helper()
	m.log = nil
	if err := errors.Join(s.add(m, want), s.removeOthers(m, want)); err != nil {
		t.Fatal(err)
	}
	return m.log
}

func server(addr string, to ...string) Server {
	s := Server{Key: Key{Address: netip.MustParseAddr(addr), Protocol: ruleset.TCP, Port: 80}}
	for _, text := range to {
		s.Destinations = append(s.Destinations, netip.MustParseAddrPort(text))
	}
	return s
}

func TestServersAddBeforeRemove(t *testing.T) {
	m, s := newMemory(), &servers{known: map[Key]*known{}}
	check := func(want []Server, log ...string) {
		t.Helper()
		if diff := cmp.Diff(log, m.to(t, s, want)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	one := []Server{server("10.0.0.1", "1.1.1.1:1")}
	check(one, "add 10.0.0.1:80", "10.0.0.1:80 add 1.1.1.1:1")
	check(one)
	check([]Server{server("10.0.0.1", "1.1.1.1:2")},
		"10.0.0.1:80 add 1.1.1.1:2", "10.0.0.1:80 weight 1.1.1.1:1 0", "10.0.0.1:80 remove 1.1.1.1:1")
	check([]Server{server("10.0.0.2", "1.1.1.1:1")},
		"add 10.0.0.2:80", "10.0.0.2:80 add 1.1.1.1:1", "remove 10.0.0.1:80")
	sticky := server("10.0.0.2", "1.1.1.1:1")
	sticky.Affinity = time.Minute
	check([]Server{sticky}, "change 10.0.0.2:80: 60s")
}

func TestServersLetConnectionsFinish(t *testing.T) {
	m, s := newMemory(), &servers{known: map[Key]*known{}}
	both, second := []Server{server("10.0.0.1", "1.1.1.1:1", "1.1.1.1:2")}, []Server{server("10.0.0.1", "1.1.1.1:2")}
	m.to(t, s, both)
	first := m.dests[both[0].Key][netip.MustParseAddrPort("1.1.1.1:1")]
	first.ActiveConnections = 1
	if diff := cmp.Diff([]string{"10.0.0.1:80 weight 1.1.1.1:1 0"}, m.to(t, s, second)); diff != "" {
		t.Errorf("with a connection open (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"10.0.0.1:80 weight 1.1.1.1:1 1"}, m.to(t, s, both)); diff != "" {
		t.Errorf("it comes back (-want +got)\n%s", diff)
	}
	m.to(t, s, second)
	first.ActiveConnections = 0
	if diff := cmp.Diff([]string{"10.0.0.1:80 remove 1.1.1.1:1"}, m.to(t, s, second)); diff != "" {
		t.Errorf("with the connection over (-want +got)\n%s", diff)
	}
}

func TestServersAreTakenOver(t *testing.T) {
	m := newMemory()
	m.to(t, &servers{known: map[Key]*known{}}, []Server{server("10.0.0.1", "1.1.1.1:1"), server("10.0.0.2", "1.1.1.1:1"), server("192.168.0.1", "1.1.1.1:1")})
	s, err := readServers(m, func(k Key) bool { return k.Address != netip.MustParseAddr("192.168.0.1") })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"remove 10.0.0.2:80"}, m.to(t, s, []Server{server("10.0.0.1", "1.1.1.1:1")})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(m.services) != 2 {
		t.Error("another program's virtual server is gone")
	}
}

func TestKeysThereAndBack(t *testing.T) {
	for _, key := range []Key{
		server("10.0.0.1").Key,
		{Six: true, Address: netip.MustParseAddr("fd00::1"), Protocol: ruleset.UDP, Port: 53},
		{Six: true, Mark: 0x14000}, {Mark: 0x24000},
	} {
		if got := keyOf(serviceOf(key, time.Hour)); got != key {
			t.Errorf("got %v, want %v", got, key)
		}
	}
}

// TestLink works with dummy links and without.
func TestLink(t *testing.T) {
	ns := backendtest.Namespace(t)
	a, b, c := netip.MustParseAddr("10.79.0.1"), netip.MustParseAddr("10.79.0.2"), netip.MustParseAddr("fd79::1")
	err := netns.Do(ns, func() error {
		for _, want := range [][]netip.Addr{{a, c}, {a, c}, {b}, {}} {
			if err := setAddresses(want); err != nil {
				return err
			}
			have, err := onLink()
			if err != nil {
				return err
			}
			if len(have) != len(want) || slices.ContainsFunc(want, func(a netip.Addr) bool { return !have[a] }) {
				t.Errorf("the link has %v, want %v", have, want)
			}
		}
		return errors.Join(removeLink(), removeLink())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKernel runs the whole suite where the kernel has IPVS, and otherwise
// checks what a user is told.
func TestKernel(t *testing.T) {
	ns := backendtest.Namespace(t)
	b := New(ns)
	if err := b.Cleanup(t.Context()); err != nil {
		t.Errorf("clean up where nothing is: %v", err)
	}
	if err := b.Available(t.Context()); err != nil {
		if sync := b.Sync(t.Context(), backendtest.Rules()); sync == nil || sync.Error() != err.Error() {
			t.Errorf("Sync says %v, Available %v", sync, err)
		}
		t.Skipf("this kernel cannot run the rest: %v", err)
	}
	lab := backendtest.NewLab(t)
	backendtest.Run(t, lab.Kernel(New(lab.Node)))
}
