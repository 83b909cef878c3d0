//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// RandomSlot is a number from 0 to slots-1, drawn anew for each packet, as the
// last field of a map's key: Mark(n) is its datum.
func RandomSlot(slots uint32) Field {
	return Field{fmt.Sprintf("numgen random mod %d", slots), TypeMark, func(r uint32) []expr.Any {
		return []expr.Any{&expr.Numgen{Register: r, Modulus: slots, Type: unix.NFT_NG_RANDOM}}
	}}
}

// stickyRegister is where a choice stands while the registers of a key with
// two addresses, protocol and port are in use.
func stickyRegister(family Family) uint32 {
	if family == IPv6 {
		return reg32 + 10
	}
	return unix.NFT_REG_2
}

// DNATSticky rewrites the destination to what the map from has for the fields,
// and remembers it for client (a key with the source address) in the dynamic
// map memory, or renews the memory when from is memory itself. Packets that
// from has nothing for go on.
func DNATSticky(family Family, from string, fields []Field, memory string, client []Field, life time.Duration) Expr {
	text, kernel := key(fields)
	clientText, clientKernel := key(client)
	name, addrRegisters := "ip", uint32(1)
	if family == IPv6 {
		name, addrRegisters = "ip6", 4
	}
	choice := stickyRegister(family)
	port := choice + addrRegisters
	if family != IPv6 {
		port = reg32 + 4 + addrRegisters // NFT_REG_2 is the fifth 4-byte register
	}
	kernel = append(kernel, &expr.Lookup{SourceRegister: reg1, SetName: from, IsDestRegSet: true, DestRegister: choice})
	kernel = append(kernel, clientKernel...)
	kernel = append(kernel,
		&expr.Dynset{SrcRegKey: reg1, SrcRegData: choice, SetName: memory, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: life},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: natFamily(family == IPv6), RegAddrMin: choice, RegProtoMin: port, Specified: true})
	return Expr{
		text:   fmt.Sprintf("dnat %s to %s map @%s remember @%s { %s timeout %s }", name, text, from, memory, clientText, life),
		kernel: kernel,
	}
}

// IsNewConnection matches the first packet of a connection.
func IsNewConnection() Expr {
	const stateNew = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW): 1 << (ctinfo+1)
	return Expr{text: "ct state new", kernel: []expr.Any{
		&expr.Ct{Register: reg1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, stateNew), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}}
}
