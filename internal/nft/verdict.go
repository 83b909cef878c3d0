//go:build linux

package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Accept ends the chain for the packet, which goes on to the next base chain.
func Accept() Expr { return verdict("accept", expr.VerdictAccept, "") }

// Drop discards the packet.
func Drop() Expr { return verdict("drop", expr.VerdictDrop, "") }

// Return goes back to the calling chain, or to the policy.
func Return() Expr { return verdict("return", expr.VerdictReturn, "") }

// Jump continues in another chain and comes back.
func Jump(chain string) Expr { return verdict("jump "+chain, expr.VerdictJump, chain) }

// Goto continues in another chain and does not come back.
func Goto(chain string) Expr { return verdict("goto "+chain, expr.VerdictGoto, chain) }

func verdict(text string, kind expr.VerdictKind, chain string) Expr {
	return Expr{text: text, kernel: []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

// Reject refuses the packet with ICMP "port unreachable". The type and code
// are those of the table's family: the kernel drops in silence what has
// another's.
func Reject(family Family) Expr {
	text, kind, code := "reject with icmp port-unreachable", unix.NFT_REJECT_ICMP_UNREACH, 3 // RFC 792
	switch family {
	case IPv6:
		text, code = "reject with icmpv6 port-unreachable", 4 // RFC 4443
	case INet:
		text, kind, code = "reject with icmpx port-unreachable", unix.NFT_REJECT_ICMPX_UNREACH, unix.NFT_REJECT_ICMPX_PORT_UNREACH
	}
	return Expr{text: text, kernel: []expr.Any{&expr.Reject{Type: uint32(kind), Code: uint8(code)}}}
}

// Reset refuses a TCP packet with a reset, only after a match on TCP.
func Reset() Expr {
	return Expr{text: "reject with tcp reset", kernel: []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// Masquerade rewrites the source address to that of the outgoing link, with
// ports chosen at random so that two nodes' choices rarely meet.
func Masquerade() Expr {
	return Expr{text: "masquerade fully-random", kernel: []expr.Any{&expr.Masq{FullyRandom: true}}}
}

// DNAT rewrites the destination to a fixed address and port.
func DNAT(to netip.AddrPort) Expr {
	text := "dnat to " + to.Addr().String() + ":" + strconv.Itoa(int(to.Port()))
	if to.Addr().Is6() {
		text = "dnat to [" + to.Addr().String() + "]:" + strconv.Itoa(int(to.Port()))
	}
	port := binary.BigEndian.AppendUint16(nil, to.Port())
	second := uint32(unix.NFT_REG_2)
	return Expr{text: text, kernel: []expr.Any{
		&expr.Immediate{Register: reg1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: second, Data: port},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: natFamily(to.Addr().Is6()), RegAddrMin: reg1, RegProtoMin: second, Specified: true},
	}}
}

// DNATFrom rewrites the destination to the address and port that the map (of
// address . port) has for the fields; packets it has nothing for go on.
func DNATFrom(family Family, set string, fields ...Field) Expr {
	text, kernel := key(fields)
	name, addrRegisters := "ip", uint32(1)
	if family == IPv6 {
		name, addrRegisters = "ip6", 4
	}
	return Expr{text: "dnat " + name + " to " + text + " map @" + set, kernel: append(kernel,
		&expr.Lookup{SourceRegister: reg1, SetName: set, IsDestRegSet: true, DestRegister: reg1},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: natFamily(family == IPv6),
			RegAddrMin: reg1, RegProtoMin: reg32 + addrRegisters, Specified: true})}
}

func natFamily(six bool) uint32 {
	if six {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

var verdictKinds = map[string]expr.VerdictKind{
	"accept": expr.VerdictAccept,
	"drop":   expr.VerdictDrop,
	"return": expr.VerdictReturn,
	"jump":   expr.VerdictJump,
	"goto":   expr.VerdictGoto,
}
