//go:build linux

package backendtest

import (
	"net/netip"
	"testing"

	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/internal/nft/nfttrace"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Tables is a Network of one traced node whose tables come from make.
func Tables(make func(*ruleset.Ruleset) []*nft.Table) Network { return &tables{make: make} }

type tables struct {
	make   func(*ruleset.Ruleset) []*nft.Table
	tracer *nfttrace.Tracer
	port   uint16
}

func (n *tables) Load(_ testing.TB, rules *ruleset.Ruleset) {
	n.tracer = nfttrace.New(NodeAddrs(), n.make(rules)...)
}

func (n *tables) Carries(ruleset.Protocol) bool { return true }

func (n *tables) Fair() bool { return true }

func (n *tables) Send(t testing.TB, p Packet, _ Verdict) Outcome {
	t.Helper()
	packet := TracedPacket(p, &n.port)
	way := n.tracer.Receive
	if p.FromNode() {
		way = n.tracer.Send
	}
	verdict, err := way(packet)
	if err != nil {
		t.Fatal(err)
	}
	return TracedOutcome(verdict, packet)
}

// TracedPacket makes the packet as a tracer takes it, from a port of its own.
func TracedPacket(p Packet, port *uint16) *nfttrace.Packet {
	*port = max(*port+1, 1024)
	return &nfttrace.Packet{Source: netip.AddrPortFrom(p.From, *port), Dest: p.To, Protocol: byte(p.Protocol)}
}

// TracedOutcome says what the end of a trace means: only endpoints listen.
func TracedOutcome(v nfttrace.Verdict, p *nfttrace.Packet) Outcome {
	out := Outcome{Endpoint: p.Dest, Masqueraded: p.Masqueraded}
	listens := (podNetwork.Contains(p.Dest.Addr()) || podNetwork6.Contains(p.Dest.Addr())) && p.Dest.Addr() != gateway &&
		p.Dest.Addr() != gateway6 && p.Dest.Port() == endpointPort
	switch {
	case v == nfttrace.Dropped:
		out.Verdict = Dropped
	case v == nfttrace.Accepted && listens:
		out.Verdict = Reached
	default:
		out.Verdict = Rejected
	}
	return out
}
