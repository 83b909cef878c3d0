//go:build linux

package nfttrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/nft"
)

// end is how a chain ended.
type end int

const (
	endNone end = iota // nothing decided: on with the caller
	endAccept
	endDrop
	endReject
)

// maxDepth is the kernel's limit of nested chains (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// machine runs the rules of one table on one packet.
type machine struct {
	tracer *Tracer
	table  *nft.Table
	packet *Packet
	// registers are the kernel's: 4 of 16 bytes, after the verdict's.
	registers [20 * 4]byte
}

// step is what an expression says of how to go on.
type step struct {
	kind  expr.VerdictKind
	chain string
	stop  bool // the rule does not match, or is over
	set   bool // kind is set
	end   end
}

func (m *machine) chain(name string, depth int) (end, error) {
	if depth > maxDepth {
		return endNone, errors.New("chains nested too deeply")
	}
	for i := range m.table.Chains {
		c := &m.table.Chains[i]
		if c.Name != name {
			continue
		}
		for k := range c.Rules {
			s, err := m.rule(&c.Rules[k])
			if err != nil {
				return endNone, fmt.Errorf("rule %d of %s: %w", k, name, err)
			}
			if s.end != endNone {
				return s.end, nil
			}
			if !s.set {
				continue
			}
			done, e, err := m.follow(s, depth)
			if err != nil || done {
				return e, err
			}
		}
		return endNone, nil
	}
	return endNone, fmt.Errorf("no chain %s", name)
}

func (m *machine) follow(s step, depth int) (done bool, e end, err error) {
	switch s.kind {
	case expr.VerdictAccept:
		return true, endAccept, nil
	case expr.VerdictDrop:
		return true, endDrop, nil
	case expr.VerdictReturn:
		return true, endNone, nil
	case expr.VerdictGoto:
		e, err = m.chain(s.chain, depth+1)
		return true, e, err
	case expr.VerdictJump:
		e, err = m.chain(s.chain, depth+1)
		return e != endNone, e, err
	}
	return false, endNone, nil
}

func (m *machine) rule(r *nft.Rule) (step, error) {
	for _, part := range r.Exprs {
		for _, e := range part.Kernel() {
			s, err := m.run(e)
			if err != nil {
				return s, fmt.Errorf("%s: %w", part, err)
			}
			if s.stop || s.set || s.end != endNone {
				return s, nil
			}
		}
	}
	return step{}, nil
}

func (m *machine) run(e expr.Any) (step, error) {
	switch e := e.(type) {
	case *expr.Payload:
		return m.payload(e)
	case *expr.Meta:
		return m.meta(e)
	case *expr.Ct:
		return m.conntrack(e)
	case *expr.Fib:
		kind := uint32(unix.RTN_UNICAST)
		if m.tracer.IsLocal(m.packet.Dest.Addr()) {
			kind = unix.RTN_LOCAL
		}
		m.put(e.Register, binary.NativeEndian.AppendUint32(nil, kind))
	case *expr.Numgen:
		m.put(e.Register, binary.NativeEndian.AppendUint32(nil, e.Offset+m.tracer.counter%e.Modulus))
		m.tracer.counter++
	case *expr.Immediate:
		m.put(e.Register, e.Data)
	case *expr.Bitwise:
		from := bytes.Clone(m.get(e.SourceRegister, int(e.Len)))
		for i := range from {
			from[i] = from[i]&e.Mask[i] ^ e.Xor[i]
		}
		m.put(e.DestRegister, from)
	case *expr.Cmp:
		equal := bytes.Equal(m.get(e.Register, len(e.Data)), e.Data)
		return step{stop: equal != (e.Op == expr.CmpOpEq)}, nil
	case *expr.Lookup:
		return m.lookup(e)
	case *expr.Dynset:
		return step{}, m.learn(e)
	case *expr.Verdict:
		return step{set: true, kind: e.Kind, chain: e.Chain}, nil
	case *expr.NAT:
		return m.dnat(e)
	case *expr.Masq:
		m.packet.Masqueraded = true
		return step{end: endAccept}, nil
	case *expr.Reject:
		if e.Type == unix.NFT_REJECT_ICMPX_UNREACH && m.table.Family != nft.INet {
			return step{end: endDrop}, nil // what the kernel makes of it
		}
		return step{end: endReject}, nil
	default:
		return step{}, fmt.Errorf("expression %T is not known", e)
	}
	return step{}, nil
}

// at is where a register begins: the 16-byte ones are numbered 1 to 4, the
// 4-byte ones, which lie in the same memory, from 8.
func at(register uint32) int {
	if register >= unix.NFT_REG32_00 {
		return int(register-unix.NFT_REG32_00)*4 + 16
	}
	return int(register) * 16
}

// put stores data, padded to 4 bytes like the kernel does.
func (m *machine) put(register uint32, data []byte) {
	to := m.registers[at(register):]
	n := copy(to, data)
	for ; n%4 != 0; n++ {
		to[n] = 0
	}
}

func (m *machine) get(register uint32, size int) []byte {
	return m.registers[at(register) : at(register)+size]
}

func (m *machine) payload(e *expr.Payload) (step, error) {
	p := m.packet
	var header []byte
	switch {
	case e.Base == expr.PayloadBaseTransportHeader:
		header = binary.BigEndian.AppendUint16(header, p.Source.Port())
		header = binary.BigEndian.AppendUint16(header, p.Dest.Port())
	case p.Dest.Addr().Is4():
		header = append(make([]byte, 12), append(p.Source.Addr().AsSlice(), p.Dest.Addr().AsSlice()...)...)
	default:
		header = append(make([]byte, 8), append(p.Source.Addr().AsSlice(), p.Dest.Addr().AsSlice()...)...)
	}
	if int(e.Offset+e.Len) > len(header) {
		return step{}, fmt.Errorf("reads %d bytes at %d of a header of %d", e.Len, e.Offset, len(header))
	}
	m.put(e.DestRegister, header[e.Offset:e.Offset+e.Len])
	return step{}, nil
}

func (m *machine) meta(e *expr.Meta) (step, error) {
	p := m.packet
	if e.SourceRegister {
		if e.Key != expr.MetaKeyMARK {
			return step{}, fmt.Errorf("meta key %d cannot be set", e.Key)
		}
		p.Mark = binary.NativeEndian.Uint32(m.get(e.Register, 4))
		return step{}, nil
	}
	name := func(text string) []byte {
		b := make([]byte, unix.IFNAMSIZ)
		copy(b, text)
		return b
	}
	switch e.Key {
	case expr.MetaKeyMARK:
		m.put(e.Register, binary.NativeEndian.AppendUint32(nil, p.Mark))
	case expr.MetaKeyL4PROTO:
		m.put(e.Register, []byte{p.Protocol})
	case expr.MetaKeyIIFNAME:
		m.put(e.Register, name(p.InLink))
	case expr.MetaKeyOIFNAME:
		m.put(e.Register, name(p.OutLink))
	default:
		return step{}, fmt.Errorf("meta key %d is not known", e.Key)
	}
	return step{}, nil
}

func (m *machine) conntrack(e *expr.Ct) (step, error) {
	var value uint32
	switch e.Key {
	case expr.CtKeySTATE:
		value = 1 << 3 // new: IP_CT_NEW is 2, and the bit one more
	case expr.CtKeySTATUS:
		if m.packet.DNATed {
			value = 1 << 5 // IPS_DST_NAT
		}
	default:
		return step{}, fmt.Errorf("ct key %d is not known", e.Key)
	}
	m.put(e.Register, binary.NativeEndian.AppendUint32(nil, value))
	return step{}, nil
}

func (m *machine) dnat(e *expr.NAT) (step, error) {
	if e.Type != expr.NATTypeDestNAT {
		return step{}, errors.New("only the destination can be translated")
	}
	size := 4
	if e.Family == unix.NFPROTO_IPV6 {
		size = 16
	}
	addr, ok := netip.AddrFromSlice(m.get(e.RegAddrMin, size))
	if !ok {
		return step{}, errors.New("no address in the register")
	}
	port := m.packet.Dest.Port()
	if e.RegProtoMin != 0 {
		port = binary.BigEndian.Uint16(m.get(e.RegProtoMin, 2))
	}
	m.packet.Dest, m.packet.DNATed = netip.AddrPortFrom(addr, port), true
	return step{end: endAccept}, nil
}
