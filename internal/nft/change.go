//go:build linux

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Change is a step from a table that is in the kernel to the next one, for
// owners of large tables who know what changed.
type Change struct {
	Family Family
	Name   string
	// Chains and Sets are new; the elements of new sets stand in Elements.
	Chains []Chain
	Sets   []Set
	// Elements go and come, in old sets and new ones.
	Elements []SetChange
	// OldChains and OldSets go, with all that is in them.
	OldChains []Chain
	OldSets   []Set
}

// SetChange are elements of one set that go and come. An element whose value
// changes is in both.
type SetChange struct {
	Set         Set // as it is declared
	Gone, Added []Element
}

// Empty reports whether nothing changes.
func (c *Change) Empty() bool {
	return len(c.Chains)+len(c.Sets)+len(c.Elements)+len(c.OldChains)+len(c.OldSets) == 0
}

// Apply makes one change to a table in one transaction. The next Sync of the
// table replaces it, as only the caller knows the whole. After an error the
// kernel has nothing of it.
func (c *Client) Apply(change *Change) (Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.synced, tableKey{change.Family, change.Name})
	if change.Empty() {
		return Stats{}, nil
	}
	stats, err := c.transact(change.Family, change.Name, func(b *batch) { b.apply(change) })
	if err != nil {
		return Stats{}, fmt.Errorf("change table %s %s: %w", familyName(change.Family), change.Name, err)
	}
	return stats, nil
}

func (b *batch) apply(c *Change) {
	for i := range c.Chains {
		b.addChain(&c.Chains[i])
	}
	for i := range c.Sets {
		b.addSet(&c.Sets[i])
	}
	for i := range c.Elements {
		e := &c.Elements[i]
		b.changeElements(&e.Set, e.Gone, e.Added)
	}
	for i := range c.Chains {
		b.addRules(&c.Chains[i])
	}
	b.drop(&Table{Chains: c.OldChains, Sets: c.OldSets}, nil, nil)
}

// Generation is a number that the kernel raises with every transaction in the
// network namespace, whoever makes it. When it is what it was, no table
// changed.
func (c *Client) Generation() (uint32, error) {
	var generation uint32
	err := c.inNetns(func(config *netlink.Config) error {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, config)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // only read from
		replies, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN), Flags: netlink.Request},
			Data:   make([]byte, 4), // nfgenmsg: any family
		})
		if err != nil {
			return err
		}
		for _, r := range replies {
			attributes, err := netlink.NewAttributeDecoder(r.Data[4:])
			if err != nil {
				return err
			}
			attributes.ByteOrder = binary.BigEndian
			for attributes.Next() {
				if attributes.Type() == unix.NFTA_GEN_ID {
					generation = attributes.Uint32()
					return attributes.Err()
				}
			}
		}
		return errors.New("no generation in the answer")
	})
	if err != nil {
		return 0, fmt.Errorf("read generation of nftables: %w", err)
	}
	return generation, nil
}

// carryOver adds the elements that rules put into the dynamic sets of a table
// to the table that replaces it, with what is left of their lives.
func (b *batch) carryOver(t *Table) {
	for i := range t.Sets {
		s := &t.Sets[i]
		if s.Timeout == 0 || !s.Dynamic {
			continue
		}
		old, err := b.conn.GetSetByName(b.table, s.Name)
		if err != nil {
			continue // there is none to carry over
		}
		set := b.set(s)
		if old.KeyType.Bytes != set.KeyType.Bytes || old.DataType.Bytes != set.DataType.Bytes {
			continue
		}
		elements, err := b.conn.GetSetElements(old)
		if err != nil {
			b.fail(fmt.Errorf("read elements of set %s: %w", s.Name, err))
			continue
		}
		var live []nftables.SetElement
		for _, e := range elements {
			if e.Expires > 0 {
				live = append(live, nftables.SetElement{Key: e.Key, Val: e.Val, Timeout: e.Expires})
			}
		}
		b.carried = append(b.carried, carried{set, live})
	}
}

// carried are elements to add to a set once it is there.
type carried struct {
	set      *nftables.Set
	elements []nftables.SetElement
}
