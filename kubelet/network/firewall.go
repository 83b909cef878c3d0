//go:build linux

package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// A drop in any base chain is final, so accepting Pod traffic in a table of
// our own does not help where another firewall drops what it does not know.
// dockerd does (iptables -P FORWARD DROP); its chain for the rules of others
// is DOCKER-USER. Where the chain is missing, FORWARD itself is used if it
// drops by default. Only iptables on nftables can be reached this way.
const firewallComment = "skeg: pods"

// acceptForwarding inserts rules that accept packets from and to the bridge.
func (n *Network) acceptForwarding() error {
	return n.rules.Conn(func(conn *nftables.Conn) error {
		var errs []error
		for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			chain, err := forwardChain(conn, family)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if chain == nil {
				continue
			}
			errs = append(errs, n.insertAccept(conn, chain))
		}
		return errors.Join(errs...)
	})
}

// forwardChain finds the chain to insert into; nil if nothing is in the way.
func forwardChain(conn *nftables.Conn, family nftables.TableFamily) (*nftables.Chain, error) {
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list chains of other firewalls: %w", err)
	}
	var forward *nftables.Chain
	for _, c := range chains {
		if c.Table.Name != "filter" {
			continue
		}
		if c.Name == "DOCKER-USER" {
			return c, nil
		}
		if c.Name == "FORWARD" && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			forward = c
		}
	}
	return forward, nil
}

func (n *Network) insertAccept(conn *nftables.Conn, chain *nftables.Chain) error {
	present, err := ownRules(conn, chain)
	if err != nil || len(present) == 2 {
		return err
	}
	for _, r := range present {
		if err := conn.DelRule(r); err != nil {
			return fmt.Errorf("replace firewall rule: %w", err)
		}
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, n.config.Bridge)
	for _, link := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		conn.InsertRule(&nftables.Rule{
			Table: chain.Table, Chain: chain,
			UserData: userdata.AppendString(nil, userdata.TypeComment, firewallComment),
			Exprs: []expr.Any{
				&expr.Meta{Key: link, Register: unix.NFT_REG_1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: name},
				&expr.Counter{}, // iptables lists only rules that count
				&expr.Verdict{Kind: expr.VerdictAccept},
			},
		})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("insert into chain %s: %w", chain.Name, err)
	}
	return nil
}

// withdrawForwarding removes what acceptForwarding inserted.
func (n *Network) withdrawForwarding() error {
	return n.rules.Conn(func(conn *nftables.Conn) error {
		for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			chains, err := conn.ListChainsOfTableFamily(family)
			if err != nil {
				return fmt.Errorf("list chains of other firewalls: %w", err)
			}
			for _, c := range chains {
				if c.Table.Name != "filter" || (c.Name != "DOCKER-USER" && c.Name != "FORWARD") {
					continue
				}
				rules, err := ownRules(conn, c)
				if err != nil {
					return err
				}
				for _, r := range rules {
					if err := conn.DelRule(r); err != nil {
						return fmt.Errorf("delete firewall rule: %w", err)
					}
				}
			}
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("delete firewall rules: %w", err)
		}
		return nil
	})
}

// ownRules are the rules of the chain that carry our comment.
func ownRules(conn *nftables.Conn, chain *nftables.Chain) ([]*nftables.Rule, error) {
	rules, err := conn.GetRules(chain.Table, chain)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules of chain %s: %w", chain.Name, err)
	}
	var own []*nftables.Rule
	for _, r := range rules {
		if text, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok && text == firewallComment {
			r.Chain, r.Table = chain, chain.Table
			own = append(own, r)
		}
	}
	return own, nil
}
