//go:build linux

package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Type is the type of one field of a key or value.
type Type struct {
	name string
	kind nftables.SetDatatype
	size uint32 // bytes in a register, padded to 4
}

// The types.
var (
	TypeIPv4   = Type{"ipv4_addr", nftables.TypeIPAddr, 4}
	TypeIPv6   = Type{"ipv6_addr", nftables.TypeIP6Addr, 16}
	TypeProto  = Type{"inet_proto", nftables.TypeInetProto, 4}
	TypePort   = Type{"inet_service", nftables.TypeInetService, 4}
	TypeMark   = Type{"mark", nftables.TypeMark, 4}
	TypeIfname = Type{"ifname", nftables.TypeIFName, 16}
)

// AddrType is the type of addresses of a family.
func AddrType(family Family) Type {
	if family == IPv6 {
		return TypeIPv6
	}
	return TypeIPv4
}

// Datum is a value as the kernel holds it, and as nft shows it.
type Datum struct {
	bytes []byte
	end   []byte // first value after a prefix; nil for single values
	text  string
}

// String is the value as nft shows it.
func (d Datum) String() string { return d.text }

// Addr is an address.
func Addr(a netip.Addr) Datum { return Datum{bytes: a.AsSlice(), text: a.String()} }

// Prefix is a range of addresses, for interval sets with a single-field key.
func Prefix(p netip.Prefix) Datum {
	p = p.Masked()
	first := p.Addr().AsSlice()
	end := make([]byte, len(first))
	copy(end, first)
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(0x80 >> (i % 8))
		if end[i/8]&bit == 0 {
			end[i/8] |= bit
			break
		}
		end[i/8] &^= bit
	}
	text := p.String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	return Datum{bytes: first, end: end, text: text}
}

// Proto is a transport protocol by its IPPROTO number.
func Proto(n byte) Datum { return Datum{bytes: []byte{n, 0, 0, 0}, text: protoName(n)} }

// Port is a port number.
func Port(n uint16) Datum {
	b := make([]byte, 4)
	binary.BigEndian.PutUint16(b, n)
	return Datum{bytes: b, text: strconv.Itoa(int(n))}
}

// Mark is a packet mark.
func Mark(n uint32) Datum {
	return Datum{bytes: binary.NativeEndian.AppendUint32(nil, n), text: markText(n)}
}

// Ifname is the name of a link.
func Ifname(name string) Datum {
	return Datum{bytes: ifnameBytes(name), text: strconv.Quote(name)}
}

// Tuple concatenates single values, for keys and values of several fields.
func Tuple(fields ...Datum) Datum {
	var d Datum
	texts := make([]string, len(fields))
	for i, f := range fields {
		d.bytes = append(d.bytes, f.bytes...)
		texts[i] = f.text
	}
	d.text = strings.Join(texts, " . ")
	return d
}

func protoName(n byte) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	default:
		return strconv.Itoa(int(n))
	}
}

func markText(n uint32) string {
	s := strconv.FormatUint(uint64(n), 16)
	return "0x" + strings.Repeat("0", 8-len(s)) + s
}

func ifnameBytes(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func typeNames(fields []Type) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, " . ")
}

func kernelType(fields []Type) (nftables.SetDatatype, error) {
	if len(fields) == 1 {
		return fields[0].kind, nil
	}
	kinds := make([]nftables.SetDatatype, len(fields))
	for i, f := range fields {
		kinds[i] = f.kind
	}
	return nftables.ConcatSetType(kinds...)
}
