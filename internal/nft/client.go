//go:build linux

package nft

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// socketBufferBytes holds the acknowledgements of the largest transaction
// (one per message, about 100 bytes as the kernel counts them); the kernel
// doubles it and takes memory only as it is filled.
const socketBufferBytes = 16 << 20

// Stats counts what a Sync changed.
type Stats struct {
	Replaced                      bool // the whole table was rebuilt
	Chains, Rules, Sets, Elements int
}

// Client brings tables of one network namespace to given values. It remembers
// what it synced; it must be the only writer of these tables. Safe for
// concurrent use.
type Client struct {
	netns string

	mu     sync.Mutex // guards synced, and one transaction at a time
	synced map[tableKey]*Table
}

type tableKey struct {
	family Family
	name   string
}

// NewClient returns a client for the network namespace at path; "" is the
// process's own. Nothing is opened until it is used.
func NewClient(netnsPath string) *Client {
	return &Client{netns: netnsPath, synced: map[tableKey]*Table{}}
}

// Sync makes the kernel's table equal to t, in one transaction that sends only
// the difference to the last Sync. The first Sync of a table, and one whose
// difference the kernel refuses, replaces it whole. t must not be changed
// afterwards.
func (c *Client) Sync(t *Table) (Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := tableKey{t.Family, t.Name}
	old := c.synced[k]
	delete(c.synced, k) // unknown, should the transaction fail
	var stats Stats
	err := errors.New("nothing known of the table")
	if old != nil && sameShape(old, t) {
		stats, err = c.transact(t.Family, t.Name, func(b *batch) { b.change(old, t) })
	}
	if err != nil { // also when somebody else removed what the change builds on
		stats, err = c.transact(t.Family, t.Name, func(b *batch) {
			b.stats.Replaced = true
			b.replace(t)
		})
	}
	if err != nil {
		return Stats{}, fmt.Errorf("sync table %s %s: %w", familyName(t.Family), t.Name, err)
	}
	c.synced[k] = t
	return stats, nil
}

// Delete removes a table; one that is not there is a success.
func (c *Client) Delete(family Family, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.synced, tableKey{family, name})
	_, err := c.transact(family, name, func(b *batch) {
		b.conn.AddTable(b.table)
		b.conn.DelTable(b.table)
	})
	if err != nil {
		return fmt.Errorf("delete table %s %s: %w", familyName(family), name, err)
	}
	return nil
}

// Forget makes the next Sync of every table replace it whole, for a periodic
// repair of what somebody else changed.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.synced)
}

// Conn runs fn with a connection to the namespace, for what a Table cannot
// express: reading, and rules in tables of others. fn flushes it.
func (c *Client) Conn(fn func(*nftables.Conn) error) error {
	return c.inNetns(func(config *netlink.Config) error {
		conn, err := nftables.New(nftables.WithSockOptions(bigBuffers), nftables.WithNetNSFd(config.NetNS))
		if err != nil {
			return fmt.Errorf("connect to nftables: %w", err)
		}
		return fn(conn)
	})
}

// inNetns opens the namespace for as long as fn runs.
func (c *Client) inNetns(fn func(*netlink.Config) error) error {
	if c.netns == "" {
		return fn(&netlink.Config{})
	}
	ns, err := os.Open(c.netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // read-only, nothing to lose
	return fn(&netlink.Config{NetNS: int(ns.Fd())})
}

func (c *Client) transact(family Family, name string, fill func(*batch)) (Stats, error) {
	var stats Stats
	err := c.Conn(func(conn *nftables.Conn) error {
		b := &batch{conn: conn, table: &nftables.Table{Family: family, Name: name}}
		fill(b)
		if b.err != nil {
			return b.err
		}
		stats = b.stats
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("commit transaction: %w", err)
		}
		return nil
	})
	return stats, err
}

func bigBuffers(conn *netlink.Conn) error {
	return errors.Join(conn.SetReadBuffer(socketBufferBytes), conn.SetWriteBuffer(socketBufferBytes))
}

// sameShape reports whether next can be reached without redefining a set or a
// hook, which the kernel does not do in place.
func sameShape(old, next *Table) bool {
	sets := byName(old.Sets, setName)
	for i := range next.Sets {
		if was := sets[next.Sets[i].Name]; was != nil && was.header() != next.Sets[i].header() {
			return false
		}
	}
	chains := byName(old.Chains, chainName)
	for i := range next.Chains {
		was := chains[next.Chains[i].Name]
		if was != nil && hookText(was) != hookText(&next.Chains[i]) {
			return false
		}
	}
	return true
}

func hookText(c *Chain) string {
	if c.Hook == nil {
		return ""
	}
	return c.Hook.text()
}
