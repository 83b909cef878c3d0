//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers. The first 16-byte register and the first 4-byte one are the same
// memory; wider keys continue in the following 4-byte ones.
const (
	reg1  = unix.NFT_REG_1
	reg32 = unix.NFT_REG32_00
)

// Expr is part of a rule: a match or a statement, as kernel expressions and as
// the text nft shows for them.
type Expr struct {
	text   string
	kernel []expr.Any
}

// Raw makes an expression from kernel expressions, for what this package has
// no name for. text is its canonical form.
func Raw(text string, kernel ...expr.Any) Expr { return Expr{text: text, kernel: kernel} }

// Field is something of a packet that can be compared or looked up.
type Field struct {
	text string
	typ  Type
	// load puts the field into 4-byte register number r.
	load func(r uint32) []expr.Any
}

func payload(text string, typ Type, base expr.PayloadBase, offset, size uint32) Field {
	return Field{text, typ, func(r uint32) []expr.Any {
		return []expr.Any{&expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: size}}
	}}
}

func meta(text string, typ Type, key expr.MetaKey) Field {
	return Field{text, typ, func(r uint32) []expr.Any {
		return []expr.Any{&expr.Meta{Key: key, Register: r}}
	}}
}

// The fields. Addresses are only for tables of their own family; ports need a
// match or a key on the protocol before them.
var (
	IPSource   = payload("ip saddr", TypeIPv4, expr.PayloadBaseNetworkHeader, 12, 4)
	IPDest     = payload("ip daddr", TypeIPv4, expr.PayloadBaseNetworkHeader, 16, 4)
	IP6Source  = payload("ip6 saddr", TypeIPv6, expr.PayloadBaseNetworkHeader, 8, 16)
	IP6Dest    = payload("ip6 daddr", TypeIPv6, expr.PayloadBaseNetworkHeader, 24, 16)
	SourcePort = payload("th sport", TypePort, expr.PayloadBaseTransportHeader, 0, 2)
	DestPort   = payload("th dport", TypePort, expr.PayloadBaseTransportHeader, 2, 2)
	L4Proto    = meta("meta l4proto", TypeProto, expr.MetaKeyL4PROTO)
	PacketMark = meta("meta mark", TypeMark, expr.MetaKeyMARK)
	InLink     = meta("iifname", TypeIfname, expr.MetaKeyIIFNAME)
	OutLink    = meta("oifname", TypeIfname, expr.MetaKeyOIFNAME)
)

// SourceAddr is the source address field of a family.
func SourceAddr(family Family) Field {
	if family == IPv6 {
		return IP6Source
	}
	return IPSource
}

// DestAddr is the destination address field of a family.
func DestAddr(family Family) Field {
	if family == IPv6 {
		return IP6Dest
	}
	return IPDest
}

// Is matches packets whose field has the value, or lies in the prefix.
func (f Field) Is(d Datum) Expr { return f.compare(d, expr.CmpOpEq, f.text+" "+d.text) }

// Not matches packets whose field has another value, or lies outside the prefix.
func (f Field) Not(d Datum) Expr { return f.compare(d, expr.CmpOpNeq, f.text+" != "+d.text) }

func (f Field) compare(d Datum, op expr.CmpOp, text string) Expr {
	size := len(d.bytes)
	want := d.bytes
	switch f.typ.name {
	case TypeProto.name:
		want = d.bytes[:1]
	case TypePort.name:
		want = d.bytes[:2]
	}
	kernel := f.load(reg1)
	if d.end != nil {
		mask := prefixMask(d)
		kernel = append(kernel, &expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: uint32(size),
			Mask: mask, Xor: make([]byte, size),
		})
	}
	return Expr{text: text, kernel: append(kernel, &expr.Cmp{Op: op, Register: reg1, Data: want})}
}

// prefixMask is the netmask of a prefix datum, from its text.
func prefixMask(d Datum) []byte {
	mask := make([]byte, len(d.bytes))
	bits := len(d.bytes) * 8
	if p, err := netip.ParsePrefix(d.text); err == nil {
		bits = p.Bits()
	}
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// key loads fields into consecutive registers.
func key(fields []Field) (text string, kernel []expr.Any) {
	texts := make([]string, len(fields))
	r := uint32(reg32)
	for i, f := range fields {
		texts[i] = f.text
		if i == 0 {
			kernel = append(kernel, f.load(reg1)...)
		} else {
			kernel = append(kernel, f.load(r)...)
		}
		r += f.typ.size / 4
	}
	return strings.Join(texts, " . "), kernel
}

// In matches packets whose fields are an element of the set.
func In(set string, fields ...Field) Expr {
	text, kernel := key(fields)
	return Expr{text: text + " @" + set, kernel: append(kernel, &expr.Lookup{SourceRegister: reg1, SetName: set})}
}

// NotIn matches packets whose fields are no element of the set.
func NotIn(set string, fields ...Field) Expr {
	text, kernel := key(fields)
	return Expr{text: text + " != @" + set, kernel: append(kernel, &expr.Lookup{SourceRegister: reg1, SetName: set, Invert: true})}
}

// VerdictFrom does what the verdict map says for the fields, and goes on when
// it says nothing.
func VerdictFrom(set string, fields ...Field) Expr {
	text, kernel := key(fields)
	return Expr{text: text + " vmap @" + set, kernel: append(kernel,
		&expr.Lookup{SourceRegister: reg1, SetName: set, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})}
}

// Masked matches packets whose mark, under the mask, equals value.
func Masked(mask, value uint32) Expr {
	return Expr{
		text: fmt.Sprintf("meta mark & %s == %s", markText(mask), markText(value)),
		kernel: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1},
			&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
				Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binary.NativeEndian.AppendUint32(nil, value)},
		},
	}
}

// SetMark sets the given bits of the packet's mark.
func SetMark(bits uint32) Expr { return changeMark("|", ^bits, bits) }

// ClearMark clears the given bits of the packet's mark.
func ClearMark(bits uint32) Expr { return changeMark("&", ^bits, 0) }

func changeMark(op string, mask, xor uint32) Expr {
	operand := xor
	if op == "&" {
		operand = mask
	}
	return Expr{
		text: fmt.Sprintf("meta mark set meta mark %s %s", op, markText(operand)),
		kernel: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1},
			&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
				Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: binary.NativeEndian.AppendUint32(nil, xor)},
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true},
		},
	}
}

// DestIsLocal matches packets addressed to this host.
func DestIsLocal() Expr {
	return Expr{text: "fib daddr type local", kernel: []expr.Any{
		&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}}
}

// Connection status and state bits (include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	ctStatusDNAT = 1 << 5
)

// IsDNATed matches packets of connections whose destination was rewritten.
func IsDNATed() Expr {
	return Expr{text: "ct status dnat", kernel: []expr.Any{
		&expr.Ct{Register: reg1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, ctStatusDNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}}
}
