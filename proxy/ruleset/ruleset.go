// Package ruleset turns Services and EndpointSlices into what a node has to do
// with packets, as plain values. All decisions (traffic policies, topology
// hints, ready and terminating endpoints, session affinity, who is
// masqueraded) are made here, once; backends only translate. The package is
// pure: no I/O, no goroutines, and no Kubernetes types beyond Build's input.
package ruleset

import (
	"net/netip"
	"time"
)

// Protocol is a transport protocol, by its IANA number.
type Protocol uint8

// The protocols a Service can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the protocol's name in lower case.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// Empty says what happens to packets for a frontend without endpoints.
type Empty uint8

const (
	// Reject answers with an ICMP error or a TCP reset: nobody serves this.
	Reject Empty = iota
	// Drop is silent: another node may serve it (traffic policy Local).
	Drop
)

// Masquerade says whose source address is replaced by the node's, so that
// answers come back this way. Packets of an endpoint to itself always are.
type Masquerade uint8

const (
	// MasqueradeOutsiders: only sources outside the pod network.
	MasqueradeOutsiders Masquerade = iota
	// MasqueradeAll: every source.
	MasqueradeAll
	// MasqueradeNone keeps the client's address (external traffic policy Local).
	MasqueradeNone
)

// Frontend is one address and port that clients send to. Values are immutable.
type Frontend struct {
	// Service is "<namespace>/<name>:<port name>", for messages and comments.
	Service string
	// Address is where clients send; the zero Addr with NodePort set means
	// every address of the node (of family Six).
	Address netip.Addr
	// NodePort says that the frontend is a port of the node.
	NodePort bool
	// Six is the family: IPv6.
	Six      bool
	Protocol Protocol
	Port     uint16
	// Endpoints to choose from, in a stable order.
	Endpoints []netip.AddrPort
	// Insiders, when not nil, are the endpoints for clients on this node or in
	// the pod network, who are masqueraded (external traffic policy Local).
	Insiders []netip.AddrPort
	// Empty says what to do when there is no endpoint.
	Empty Empty
	// Masquerade says whose source address is replaced.
	Masquerade Masquerade
	// Affinity, when not 0, is how long a client stays with its endpoint.
	Affinity time.Duration
	// Sources, when not empty, are the only clients let in; others are dropped.
	Sources []netip.Prefix
}

// HealthCheck is a port on which load balancers ask whether this node has
// endpoints of a Service (healthCheckNodePort).
type HealthCheck struct {
	// Service is "<namespace>/<name>".
	Service string
	Port    uint16
	// LocalEndpoints is how many ready endpoints are on this node.
	LocalEndpoints int
}

// Ruleset is everything a backend has to make true. Immutable.
type Ruleset struct {
	// Frontends, sorted by Service, then address, protocol and port.
	Frontends []Frontend
	// HealthChecks, sorted by port.
	HealthChecks []HealthCheck
	// PodNetworks are the ranges of the cluster's pods.
	PodNetworks []netip.Prefix
	// NodePortAddresses limits the node's addresses that node ports answer on;
	// empty means all but loopback.
	NodePortAddresses []netip.Prefix
	// ServiceNetworks are the ranges of Service addresses: traffic to one
	// that no frontend has is rejected. May be empty.
	ServiceNetworks []netip.Prefix
}
