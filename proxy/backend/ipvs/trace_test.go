//go:build linux

package ipvs

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/skeg-dev/skeg/internal/nft/nfttrace"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func TestTraced(t *testing.T) { backendtest.Run(t, &traced{}) }

// traced is a node with virtual servers, as the kernel has them.
type traced struct {
	state  State
	tracer *nfttrace.Tracer
	port   uint16
	turn   int
	// stays are the destinations of clients with affinity.
	stays map[Key]map[netip.Addr]netip.AddrPort
}

func (n *traced) Load(_ testing.TB, rules *ruleset.Ruleset) {
	n.state = StateOf(rules, backendtest.NodeAddrs())
	n.tracer = nfttrace.New(slices.Concat(backendtest.NodeAddrs(), n.state.Addresses), n.state.Tables...)
	n.stays = map[Key]map[netip.Addr]netip.AddrPort{}
}

func (n *traced) Carries(ruleset.Protocol) bool { return true }

func (n *traced) Fair() bool { return true }

func (n *traced) Send(t testing.TB, p backendtest.Packet, _ backendtest.Verdict) backendtest.Outcome {
	t.Helper()
	packet := backendtest.TracedPacket(p, &n.port)
	before := []string{"prerouting", "input"}
	if p.FromNode() {
		before = []string{"output"}
	} else if !n.tracer.IsLocal(p.To.Addr()) {
		before = []string{"prerouting", "forward"}
	}
	v, err := n.tracer.Hooks(packet, before...)
	if err == nil && v == nfttrace.Accepted {
		if n.serve(packet) {
			v, err = n.tracer.Hooks(packet, "output", "postrouting")
		} else if !n.tracer.IsLocal(packet.Dest.Addr()) {
			v, err = n.tracer.Hooks(packet, "postrouting")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return backendtest.TracedOutcome(v, packet)
}

// serve sends the packet to a destination: a server for its mark goes first.
func (n *traced) serve(p *nfttrace.Packet) bool {
	six := p.Dest.Addr().Is6()
	for _, key := range []Key{
		{Six: six, Mark: p.Mark},
		{Six: six, Address: p.Dest.Addr(), Protocol: ruleset.Protocol(p.Protocol), Port: p.Dest.Port()},
	} {
		i := slices.IndexFunc(n.state.Servers, func(s Server) bool { return s.Key == key })
		if i < 0 || key.Mark == 0 && !key.Address.IsValid() {
			continue
		}
		s := n.state.Servers[i]
		if n.stays[key] == nil {
			n.stays[key] = map[netip.Addr]netip.AddrPort{}
		}
		to, stays := n.stays[key][p.Source.Addr()]
		if !stays || s.Affinity == 0 {
			to = s.Destinations[n.turn%len(s.Destinations)]
			n.turn++
		}
		n.stays[key][p.Source.Addr()] = to
		p.Dest = to
		return true
	}
	return false
}
