package app

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// nodeIPs are the node's addresses: those given, or the one from which the
// API server is reached, or the first that is not loopback.
func nodeIPs(given, server string) ([]netip.Addr, error) {
	ips, err := parseIPs(given)
	if err != nil || len(ips) > 0 {
		return ips, err
	}
	if ip, err := sourceOf(server); err == nil && !ip.IsLoopback() {
		return []netip.Addr{ip}, nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() && prefix.Addr().Is4() {
			return []netip.Addr{prefix.Addr()}, nil
		}
	}
	return nil, fmt.Errorf("this machine has no address that others can reach; give --node-ip")
}

// sourceOf is the address a connection to the server would have. Nothing is
// sent: a datagram socket only looks up the route.
func sourceOf(server string) (netip.Addr, error) {
	parsed, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, err
	}
	conn, err := net.Dial("udp", net.JoinHostPort(parsed.Hostname(), "9"))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, err
	}
	return local.Addr().Unmap().WithZone(""), nil
}
