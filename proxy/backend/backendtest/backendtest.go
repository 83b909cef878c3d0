//go:build linux

// Package backendtest holds what every backend has to pass: one table of rules
// and packets with what must become of them (Cases), run by Run either against
// a tracer (pure) or against a Lab, network namespaces in which the packets
// are really sent, and Contract, what the backend promises beyond that. Only
// tests import it. The Lab's servers are goroutines that end with the test.
package backendtest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Packet is the first of a connection. From is one of the addresses of the
// Lab; NodeAddr and NodeAddr6 mean a process on the node.
type Packet struct {
	From     netip.Addr
	To       netip.AddrPort
	Protocol ruleset.Protocol
}

// FromNode reports whether a process on the node sends the packet.
func (p Packet) FromNode() bool { return slices.Contains(NodeAddrs(), p.From) }

// Verdict is what became of a packet.
type Verdict string

// The verdicts.
const (
	Reached  Verdict = "reached"  // an endpoint
	Rejected Verdict = "rejected" // with a reset or an ICMP error
	Dropped  Verdict = "dropped"  // without a word
)

// Outcome of sending a packet. A packet that no rule is for is Rejected by the
// node, which has nothing that listens.
type Outcome struct {
	Verdict     Verdict
	Endpoint    netip.AddrPort
	Masqueraded bool // the endpoint saw the node's address instead of From
}

// Network is something that packets can be sent in.
type Network interface {
	// Load makes rules the ones in force; nothing of earlier ones stays.
	Load(t testing.TB, rules *ruleset.Ruleset)
	// Send sends one packet as a new connection. expected is only for how long
	// to wait for an answer.
	Send(t testing.TB, p Packet, expected Verdict) Outcome
	// Carries reports whether packets of the protocol can be sent.
	Carries(p ruleset.Protocol) bool
	// Fair says that the endpoints are visited in turn and not at random, so
	// that all of them can be asked for.
	Fair() bool
}

// Want is what must become of a packet.
type Want struct {
	// Verdict is Reached when empty.
	Verdict Verdict
	// Endpoints are the ones that may be reached; all of them must be, in time.
	Endpoints   []netip.AddrPort
	Masqueraded bool
	// Sticky: every packet reaches the same of them.
	Sticky bool
}

// Probe is a packet and what must become of it.
type Probe struct {
	Packet
	Want Want
}

// Case is one set of rules and packets.
type Case struct {
	Name   string
	Rules  *ruleset.Ruleset
	Probes []Probe
}

// Run runs all Cases in a network.
func Run(t *testing.T, n Network) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			n.Load(t, c.Rules)
			for _, p := range c.Probes {
				if n.Carries(p.Protocol) {
					p.run(t, n)
				}
			}
		})
	}
}

func (p Probe) run(t *testing.T, n Network) {
	t.Helper()
	want := p.Want
	if want.Verdict == "" {
		want.Verdict = Reached
	}
	seen := map[netip.AddrPort]bool{}
	for range p.times(n.Fair()) {
		got := n.Send(t, p.Packet, want.Verdict)
		if got.Verdict != want.Verdict {
			t.Errorf("%s %s → %s: %s (%s), want %s", p.Protocol, p.From, p.To, got.Verdict, got.Endpoint, want.Verdict)
			return
		}
		if got.Verdict != Reached {
			continue
		}
		seen[got.Endpoint] = true
		if !slices.Contains(want.Endpoints, got.Endpoint) {
			t.Errorf("%s %s → %s: reached %s, want one of %v", p.Protocol, p.From, p.To, got.Endpoint, want.Endpoints)
			return
		}
		if got.Masqueraded != want.Masqueraded {
			t.Errorf("%s %s → %s: masqueraded is %v, want %v", p.Protocol, p.From, p.To, got.Masqueraded, want.Masqueraded)
			return
		}
	}
	least := min(2, len(want.Endpoints))
	if n.Fair() {
		least = len(want.Endpoints)
	}
	if want.Sticky {
		least = 1
	}
	if len(seen) < least || want.Sticky && len(seen) > 1 {
		t.Errorf("%s %s → %s: reached %d endpoints of %d", p.Protocol, p.From, p.To, len(seen), len(want.Endpoints))
	}
}

// times is how often to send: at random, so often that missing all endpoints
// but one does not happen in practice (2^-39).
func (p Probe) times(fair bool) int {
	switch n := len(p.Want.Endpoints); {
	case p.Want.Sticky:
		return 8
	case n < 2:
		return 1
	case fair:
		return 16 * n
	default:
		return 40
	}
}
