// Package netmark is the one table of packet marks, routing protocol numbers
// and address conventions that the kubelet's pod network and the proxy put on
// the node, so that no two of them take the same bit. It starts nothing and
// imports nothing.
package netmark

// Packet mark bits (skb->mark). The values are those of upstream's kubelet and
// kube-proxy (KUBE-MARK-MASQ, --iptables-masquerade-bit=14), which third-party
// network policies already leave alone.
const (
	// Masquerade asks postrouting to rewrite the source address.
	Masquerade uint32 = 1 << 14
	// Drop asks for the packet to be discarded (upstream's KUBE-MARK-DROP).
	Drop uint32 = 1 << 15
)

// RouteProtocol is the rtm_protocol of routes the pod network installs, by
// which it knows its own again after a restart. The number is free in
// iproute2's /etc/iproute2/rt_protos (values from 4 to 254 are for daemons).
const RouteProtocol = 83

// Table names in nftables, per owner.
const (
	// PodsTable belongs to kubelet/network: masquerade and host ports.
	PodsTable = "skeg-pods"
	// ProxyTable belongs to proxy/backend/nftables.
	ProxyTable = "skeg-proxy"
	// IPVSTable belongs to proxy/backend/ipvs.
	IPVSTable = "skeg-proxy-ipvs"
)
