package nodeipam

import (
	"fmt"
	"math/big"
	"net/netip"
)

// maxBits bounds the number of prefixes in a pool: 2^16 nodes' networks
// (upstream clusterSubnetMaxDiff).
const maxBits = 16

// pool hands out prefixes of one length from one cluster CIDR. Not safe for
// concurrent use.
type pool struct {
	cidr netip.Prefix
	mask int
	used []bool
	// next is where the search begins: networks are reused as late as possible.
	next int
}

func newPool(r Range, reserved []netip.Prefix) (*pool, error) {
	cidr := r.CIDR.Masked()
	bits := r.NodeMask - cidr.Bits()
	if bits < 0 || r.NodeMask > cidr.Addr().BitLen() {
		return nil, fmt.Errorf("cut /%d networks from %s: it is smaller than that", r.NodeMask, cidr)
	}
	if bits > maxBits {
		return nil, fmt.Errorf("cut /%d networks from %s: more than 2^%d of them", r.NodeMask, cidr, maxBits)
	}
	p := &pool{cidr: cidr, mask: r.NodeMask, used: make([]bool, 1<<bits)}
	for _, prefix := range reserved {
		p.mark(prefix.Masked(), true)
	}
	return p, nil
}

// take reserves a free prefix; false when there is none.
func (p *pool) take() (netip.Prefix, bool) {
	for i := range p.used {
		at := (p.next + i) % len(p.used)
		if !p.used[at] {
			p.used[at] = true
			p.next = (at + 1) % len(p.used)
			return p.prefix(at), true
		}
	}
	return netip.Prefix{}, false
}

// mark sets every prefix of the pool that overlaps the given one.
func (p *pool) mark(prefix netip.Prefix, used bool) {
	if !prefix.Overlaps(p.cidr) {
		return
	}
	if prefix.Bits() <= p.cidr.Bits() {
		for i := range p.used {
			p.used[i] = used
		}
		return
	}
	first := p.index(prefix.Addr())
	count := 1
	if prefix.Bits() < p.mask {
		count = 1 << (p.mask - prefix.Bits())
	}
	for i := first; i < first+count && i < len(p.used); i++ {
		p.used[i] = used
	}
}

// prefix returns the i-th prefix.
func (p *pool) prefix(i int) netip.Prefix {
	base := new(big.Int).SetBytes(p.cidr.Addr().AsSlice())
	offset := new(big.Int).Lsh(big.NewInt(int64(i)), uint(p.cidr.Addr().BitLen()-p.mask))
	raw := base.Add(base, offset).FillBytes(make([]byte, p.cidr.Addr().BitLen()/8))
	address, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes, as the cluster's address has
	return netip.PrefixFrom(address, p.mask)
}

// index returns which prefix an address of the cluster CIDR is in.
func (p *pool) index(address netip.Addr) int {
	offset := new(big.Int).SetBytes(address.AsSlice())
	offset.Sub(offset, new(big.Int).SetBytes(p.cidr.Addr().AsSlice()))
	return int(offset.Rsh(offset, uint(p.cidr.Addr().BitLen()-p.mask)).Int64())
}
