// Package local makes a cluster on this machine and removes it without a
// trace: a control plane on the host and nodes that are network namespaces,
// joined by a bridge in a namespace of its own. It is called by the commands
// up, down, stop and status; it starts the components as separate processes
// and leaves them running.
//
//	            host                        <name>-switch          <name>-<node>
//	apiserver scheduler controller-manager                     kubelet, proxy
//	       <name>-host 10.201.0.1 ───────── bridge br0 ──────── eth0 10.201.0.1N
//
// The bridge has its own namespace so that a firewall on the host (dockerd's
// FORWARD policy with br_netfilter, for one) does not see traffic between
// nodes.
//
// Everything is below one directory:
//
//	/var/lib/skeg/
//	├── cluster.json             Spec: what `up` was asked for
//	├── admin.conf ...           kubeconfigs, written by the apiserver
//	├── pki/                     certificates, written by the apiserver
//	├── etcd/                    the store
//	├── log/<process>.log
//	├── run/<process>.pid        process id and start time
//	└── nodes/<node>/
//	    ├── kubelet/             the kubelet's --root-dir
//	    ├── pods/                pod logs
//	    ├── bootstrap.conf       kubeconfig with the join token
//	    └── registry.d/          mirrors (hosts.toml)
package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// DefaultDir is where the cluster's files are: SKEG_STATE, or /var/lib/skeg.
func DefaultDir() string {
	if dir := os.Getenv("SKEG_STATE"); dir != "" {
		return dir
	}
	return "/var/lib/skeg"
}

// Layout names the files of a cluster below Dir.
type Layout struct{ Dir string }

// AdminKubeconfig is the kubeconfig of the cluster's administrator.
func (l Layout) AdminKubeconfig() string { return filepath.Join(l.Dir, "admin.conf") }

// PKI is the directory of certificates.
func (l Layout) PKI() string { return filepath.Join(l.Dir, "pki") }

// Log is the log file of a process.
func (l Layout) Log(process string) string { return filepath.Join(l.Dir, "log", process+".log") }

// Node is the directory of a node.
func (l Layout) Node(name string) string { return filepath.Join(l.Dir, "nodes", name) }

func (l Layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// Spec is what a cluster is made from. It is kept in cluster.json, so that
// `up` after `stop` makes the same one.
type Spec struct {
	// Name starts the names of everything on the host (namespaces, links,
	// cgroup, firewall table), so that clusters stand side by side.
	Name string `json:"name"`
	// Nodes is how many; they are named node-1, node-2, ...
	Nodes int `json:"nodes"`
	// NodeCIDR is the network of host (.1) and nodes (.11, .12, ...).
	NodeCIDR netip.Prefix `json:"nodeCIDR"`
	// PodCIDR is split into a /24 per node.
	PodCIDR netip.Prefix `json:"podCIDR"`
	// ServiceCIDR holds the Service addresses; its .1 is the API, its .10 DNS.
	ServiceCIDR netip.Prefix `json:"serviceCIDR"`
	// Port of the API server.
	Port int `json:"port"`
	// Domain of the cluster's DNS names.
	Domain string `json:"domain"`
	// ProxyMode is given to the proxies: auto, nftables or ipvs.
	ProxyMode string `json:"proxyMode"`
	// ControllerManagerArgs are further flags of the controller-manager.
	ControllerManagerArgs []string `json:"controllerManagerArgs,omitempty"`
}

// DefaultSpec is a cluster of two nodes in private ranges that the common
// tools (docker, libvirt, kind, k3s) do not use for their own networks.
func DefaultSpec() Spec {
	return Spec{
		Name:        "skeg",
		Nodes:       2,
		NodeCIDR:    netip.MustParsePrefix("10.201.0.0/24"),
		PodCIDR:     netip.MustParsePrefix("10.244.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		Port:        6443,
		Domain:      "cluster.local",
		ProxyMode:   "auto",
	}
}

// maxNodes keeps node addresses within .11 to .254 of the node network.
const maxNodes = 240

// maxName leaves room for "-host" in the 15 bytes of a link's name.
const maxName = 10

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,9}$`)

// Validate returns all faults, each naming its flag.
func (s Spec) Validate() error {
	var errs []error
	if !namePattern.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("--name: must be up to %d lower-case letters and digits, not %q", maxName, s.Name))
	}
	if s.Nodes < 1 || s.Nodes > maxNodes {
		errs = append(errs, fmt.Errorf("--nodes: must be from 1 to %d, not %d", maxNodes, s.Nodes))
	}
	if s.Port < 1 || s.Port > 65535 {
		errs = append(errs, fmt.Errorf("--port: must be from 1 to 65535, not %d", s.Port))
	}
	switch s.ProxyMode {
	case "auto", "nftables", "ipvs":
	default:
		errs = append(errs, fmt.Errorf("--proxy-mode: must be auto, nftables or ipvs, not %q", s.ProxyMode))
	}
	ranges := []struct {
		flag   string
		prefix netip.Prefix
		bits   int
	}{{"--node-cidr", s.NodeCIDR, 24}, {"--pod-cidr", s.PodCIDR, 23}, {"--service-cidr", s.ServiceCIDR, 24}}
	for i, r := range ranges {
		if !r.prefix.Addr().Is4() || r.prefix.Bits() > r.bits {
			errs = append(errs, fmt.Errorf("%s: must be an IPv4 range of at least /%d, not %s", r.flag, r.bits, r.prefix))
			continue
		}
		for _, other := range ranges[:i] {
			if r.prefix.Overlaps(other.prefix) {
				errs = append(errs, fmt.Errorf("%s: %s overlaps %s %s", r.flag, r.prefix, other.flag, other.prefix))
			}
		}
	}
	return errors.Join(errs...)
}

// HostIP is the host's address on the node network: the API server's.
func (s Spec) HostIP() netip.Addr { return nth(s.NodeCIDR, 1) }

// NodeIP is the address of node i, counted from 1.
func (s Spec) NodeIP(i int) netip.Addr { return nth(s.NodeCIDR, 10+i) }

// DNSIP is the Service address of the cluster DNS.
func (s Spec) DNSIP() netip.Addr { return nth(s.ServiceCIDR, 10) }

// Server is the API server's URL.
func (s Spec) Server() string { return fmt.Sprintf("https://%s:%d", s.HostIP(), s.Port) }

// NodeName names node i, counted from 1.
func NodeName(i int) string { return fmt.Sprintf("node-%d", i) }

func nth(p netip.Prefix, n int) netip.Addr {
	addr := p.Masked().Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}

// ErrNoCluster says that there is no cluster in the directory.
var ErrNoCluster = errors.New("no cluster here; make one with `ctl up`")

// Load reads the Spec of the cluster below dir; ErrNoCluster when there is none.
func Load(l Layout) (Spec, error) {
	var s Spec
	err := readJSON(l.path("cluster.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", l.Dir, ErrNoCluster)
	}
	return s, err
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces path in one step, so that a crash leaves the old or the
// new content.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'), 0o644)
}

func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone after the rename
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), mode)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
