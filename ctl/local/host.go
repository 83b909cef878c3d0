package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// dockerChain is where dockerd lets others accept forwarded traffic before its
// own rules (docs.docker.com, "Packet filtering and firewalls").
const dockerChain = "DOCKER-USER"

const ipForward = "/proc/sys/net/ipv4/ip_forward"

// hostDir holds what must be put back on this machine when its last cluster
// goes, whatever their order; a restart of the machine clears both:
//
//	/run/skeg-up/
//	├── ip_forward         the setting before the first cluster
//	└── clusters/<name>    a file per cluster
const hostDir = "/run/skeg-up"

func hostMarker(s Spec) string { return filepath.Join(hostDir, "clusters", s.Name) }

// prepareHost lets the nodes reach the outside: forwarding, masquerading, and
// a word with dockerd's firewall.
func prepareHost(s Spec) error {
	if err := saveHost(s); err != nil {
		return err
	}
	if err := os.WriteFile(ipForward, []byte("1\n"), 0o644); err != nil {
		return fmt.Errorf("enable forwarding: %w", err)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: s.hostTable()})
	c.FlushTable(table)
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	source, mask := s.NodeCIDR.Masked().Addr().AsSlice(), ipNet(s.NodeCIDR).Mask
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // source address
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: source},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: interfaceName(s.hostLink())},
		&expr.Masq{},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("masquerade the nodes: %w", err)
	}
	return acceptForward(c, s)
}

func saveHost(s Spec) error {
	if err := os.MkdirAll(filepath.Dir(hostMarker(s)), 0o755); err != nil {
		return err
	}
	saved := filepath.Join(hostDir, "ip_forward")
	if _, err := os.Stat(saved); errors.Is(err, fs.ErrNotExist) {
		value, err := os.ReadFile(ipForward)
		if err != nil {
			return fmt.Errorf("read the forwarding setting: %w", err)
		}
		if err := writeFile(saved, value, 0o644); err != nil {
			return err
		}
	}
	return writeFile(hostMarker(s), nil, 0o644)
}

// acceptForward adds rules for our link to dockerd's chain, where there is one.
// Their user data is the name of our table, by which they are found again.
func acceptForward(c *nftables.Conn, s Spec) error {
	if err := refuseForward(c, s); err != nil { // no second copy
		return err
	}
	chain, err := findDockerChain(c)
	if err != nil || chain == nil {
		return err
	}
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		c.InsertRule(&nftables.Rule{Table: chain.Table, Chain: chain, UserData: []byte(s.hostTable()), Exprs: []expr.Any{
			&expr.Meta{Key: key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(s.hostLink())},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("add rules to %s: %w", dockerChain, err)
	}
	return nil
}

func refuseForward(c *nftables.Conn, s Spec) error {
	chain, err := findDockerChain(c)
	if err != nil || chain == nil {
		return err
	}
	rules, err := c.GetRules(chain.Table, chain)
	if err != nil {
		return fmt.Errorf("read %s: %w", dockerChain, err)
	}
	for _, r := range rules {
		if string(r.UserData) == s.hostTable() {
			if err := c.DelRule(r); err != nil {
				return fmt.Errorf("remove rule from %s: %w", dockerChain, err)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove rules from %s: %w", dockerChain, err)
	}
	return nil
}

func findDockerChain(c *nftables.Conn) (*nftables.Chain, error) {
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name == "filter" && chain.Name == dockerChain {
			return chain, nil
		}
	}
	return nil, nil
}

// restoreHost undoes prepareHost. What all clusters share stays for the others.
func restoreHost(s Spec) error {
	if _, err := os.Stat(hostMarker(s)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: s.hostTable()}) // so that the delete finds one
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: s.hostTable()})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove table %s: %w", s.hostTable(), err)
	}
	if err := refuseForward(c, s); err != nil {
		return err
	}
	if err := os.Remove(hostMarker(s)); err != nil {
		return err
	}
	others, err := os.ReadDir(filepath.Dir(hostMarker(s)))
	if err != nil || len(others) > 0 {
		return err
	}
	value, err := os.ReadFile(filepath.Join(hostDir, "ip_forward"))
	if err != nil {
		return fmt.Errorf("restore forwarding: %w", err)
	}
	if err := os.WriteFile(ipForward, value, 0o644); err != nil {
		return fmt.Errorf("restore forwarding: %w", err)
	}
	return os.RemoveAll(hostDir)
}

// interfaceName is a name as the kernel compares it: IFNAMSIZ bytes.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// checkHost says what this machine lacks to hold a cluster.
func checkHost() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("must be run as root: it makes namespaces, mounts and cgroups (try sudo)"))
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		errs = append(errs, err)
	} else if !strings.Contains(string(filesystems), "overlay") {
		if _, err := os.Stat("/sys/module/overlay"); err != nil {
			errs = append(errs, errors.New("the kernel has no overlayfs (try modprobe overlay)"))
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup"); err != nil {
		errs = append(errs, errors.New("no cgroups at /sys/fs/cgroup"))
	}
	return errors.Join(errs...)
}
