//go:build linux

package network

import "k8s.io/apimachinery/pkg/types"

// Traffic is what a Pod's link has carried, from the Pod's side.
type Traffic struct {
	Link                 string
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
}

// Traffic reads the counters of a Pod's link; false if it has none. What the
// node's end of the link receives is what the Pod sent.
func (n *Network) Traffic(uid types.UID) (Traffic, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	link, err := n.links.LinkByName(hostLinkName(uid))
	if err != nil || link.Attrs().Statistics == nil {
		return Traffic{}, false
	}
	c := link.Attrs().Statistics
	return Traffic{
		Link:    podLink,
		RxBytes: c.TxBytes, RxPackets: c.TxPackets, RxErrors: c.TxErrors, RxDropped: c.TxDropped,
		TxBytes: c.RxBytes, TxPackets: c.RxPackets, TxErrors: c.RxErrors, TxDropped: c.RxDropped,
	}, true
}
