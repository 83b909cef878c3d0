//go:build linux

// Package ipvs carries out a Ruleset with the kernel's virtual servers (IPVS):
// one per frontend, whose address a link of our own makes local. A small
// nftables table guards, refuses and masquerades, and marks the packets of
// insiders, who have virtual servers of their own. StateOf is the translation;
// the rest brings the kernel there, adding before it removes, and lets a
// destination that goes finish its connections.
//
//	prerouting, output: guarded ── masquerade marks, insiders' marks
//	input: refused, unserved ── virtual server ──► output ── postrouting: masquerade
//
// It implements backend.Backend. It starts no goroutines.
package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Backend programs one network namespace. Use New.
type Backend struct {
	netns  string
	client *nft.Client
	// servers is what is in the kernel, as far as it is known.
	servers *servers
}

// New makes a backend for the network namespace at path netns; "" is the
// process's own. Nothing is touched before Sync.
func New(netns string) *Backend {
	return &Backend{netns: netns, client: nft.NewClient(netns)}
}

// Name is "ipvs".
func (*Backend) Name() string { return "ipvs" }

// Available says why IPVS cannot be used, or nil.
func (b *Backend) Available(context.Context) error {
	return netns.Do(b.netns, available)
}

func available() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return fmt.Errorf("the kernel has no IPVS: its module ip_vs is missing or not loaded (try `modprobe ip_vs`, or use --proxy-mode=nftables): %w", err)
	}
	return nil
}

// Sync makes the kernel do what rules say.
func (b *Backend) Sync(ctx context.Context, rules *ruleset.Ruleset) error {
	return netns.Do(b.netns, func() error {
		if err := b.sync(ctx, rules); err != nil {
			b.servers = nil
			return err
		}
		return nil
	})
}

func (b *Backend) sync(_ context.Context, rules *ruleset.Ruleset) error {
	if err := available(); err != nil {
		return err
	}
	node, err := nodeAddresses()
	if err != nil {
		return err
	}
	want := StateOf(rules, node)
	handle, err := moby.New("")
	if err != nil {
		return fmt.Errorf("open IPVS: %w", err)
	}
	defer handle.Close()
	if err := settings(); err != nil {
		return err
	}
	for _, table := range want.Tables { // refuse and guard before there is a way in
		if _, err := b.client.Sync(table); err != nil {
			return err
		}
	}
	if b.servers == nil {
		if b.servers, err = read(handle, node); err != nil {
			return err
		}
	}
	if err := b.servers.add(handle, want.Servers); err != nil {
		return err
	}
	if err := setAddresses(want.Addresses); err != nil {
		return err
	}
	return b.servers.removeOthers(handle, want.Servers)
}

// settings of the kernel's IPVS: connections are tracked, so that they can be
// masqueraded, and clients leave destinations that take no more.
func settings() error {
	for name, value := range map[string]string{"conntrack": "1", "expire_nodest_conn": "1", "expire_quiescent_template": "1"} {
		path := "/proc/sys/net/ipv4/vs/" + name
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
	}
	return nil
}

// Forget makes the next Sync read the virtual servers from the kernel and
// replace the tables.
func (b *Backend) Forget() {
	b.servers = nil
	b.client.Forget()
}

// Cleanup removes the virtual servers of the node's and our link's addresses,
// the link and the tables. Without IPVS in the kernel there are no servers.
func (b *Backend) Cleanup(context.Context) error {
	b.servers = nil
	return netns.Do(b.netns, func() error {
		errs := []error{b.client.Delete(nft.IPv4, netmark.IPVSTable), b.client.Delete(nft.IPv6, netmark.IPVSTable)}
		if available() == nil {
			errs = append(errs, removeServers())
		}
		return errors.Join(append(errs, removeLink())...)
	})
}

func removeServers() error {
	node, err := nodeAddresses()
	if err != nil {
		return err
	}
	handle, err := moby.New("")
	if err != nil {
		return fmt.Errorf("open IPVS: %w", err)
	}
	defer handle.Close()
	all, err := read(handle, node)
	if err != nil {
		return err
	}
	return all.removeOthers(handle, nil)
}

// ours tells our virtual servers from other programs': those at addresses that
// are local (the node's, and our link's), and those of our marks.
func ours(node []netip.Addr) (func(Key) bool, error) {
	link, err := onLink()
	if err != nil {
		return nil, err
	}
	return func(k Key) bool {
		if k.Mark != 0 {
			return k.Mark&netmark.Masquerade != 0 && k.Mark&insiderMarks != 0
		}
		return slices.Contains(node, k.Address) || link[k.Address]
	}, nil
}

// read reads our virtual servers from the kernel.
func read(k kernel, node []netip.Addr) (*servers, error) {
	mine, err := ours(node)
	if err != nil {
		return nil, err
	}
	return readServers(k, mine)
}
