//go:build linux

package app

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/skeg-dev/skeg/internal/component"
)

// Options are the proxy's settings. Use DefaultOptions.
type Options struct {
	// Kubeconfig says where the API server is and who we are; required but
	// for Cleanup.
	Kubeconfig string
	// Node is this node's name; the host's when "".
	Node string
	// Mode is auto, nftables or ipvs.
	Mode string
	// ClusterCIDR, NodePortAddresses and ServiceCIDR are ranges, by text.
	ClusterCIDR, NodePortAddresses, ServiceCIDR []string
	// MinSyncPeriod is the least time between syncs, SyncPeriod that between
	// full comparisons with the kernel.
	MinSyncPeriod, SyncPeriod time.Duration
	// HealthzBindAddress and MetricsBindAddress are "host:port"; "" is none.
	HealthzBindAddress, MetricsBindAddress string
	// ClusterDNS are the addresses to answer DNS on; none leaves DNS to others.
	ClusterDNS []string
	// ClusterDomain is the domain of the cluster's names.
	ClusterDomain string
	// ResolvConf names the resolvers for other names.
	ResolvConf string
	// Cleanup removes all rules and ends.
	Cleanup bool
	// QPS and Burst limit the requests to the API server.
	QPS   float32
	Burst int
}

// DefaultOptions are upstream's where it has them; the kernel is told of a
// change at once.
func DefaultOptions() *Options {
	return &Options{
		Mode: "auto", SyncPeriod: 30 * time.Second,
		HealthzBindAddress: "0.0.0.0:10256", MetricsBindAddress: "127.0.0.1:10249",
		ClusterDomain: "cluster.local", ResolvConf: "/etc/resolv.conf",
		QPS: 50, Burst: 100,
	}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "File with the API server's address and our credentials")
	fs.StringVar(&o.Node, "hostname-override", o.Node, "Name of this node; the host's if not given")
	fs.StringVar(&o.Mode, "proxy-mode", o.Mode, "auto, nftables or ipvs; auto takes nftables")
	fs.StringSliceVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "Ranges of the cluster's pods; traffic to Services from elsewhere is masqueraded")
	fs.StringSliceVar(&o.ServiceCIDR, "service-cidr", o.ServiceCIDR, "Ranges of Service addresses; connections to those nobody has are rejected")
	fs.StringSliceVar(&o.NodePortAddresses, "nodeport-addresses", o.NodePortAddresses, "Ranges of the node's addresses that node ports answer on; all if not given")
	fs.DurationVar(&o.MinSyncPeriod, "min-sync-period", o.MinSyncPeriod, "Least time between two updates of the kernel")
	fs.DurationVar(&o.SyncPeriod, "sync-period", o.SyncPeriod, "How often the kernel's rules are replaced as a whole; 0 is never")
	fs.StringVar(&o.HealthzBindAddress, "healthz-bind-address", o.HealthzBindAddress, "Where /healthz is served; empty is nowhere")
	fs.StringVar(&o.MetricsBindAddress, "metrics-bind-address", o.MetricsBindAddress, "Where /metrics is served; empty is nowhere")
	fs.StringSliceVar(&o.ClusterDNS, "cluster-dns", o.ClusterDNS, "Addresses on which to answer the cluster's DNS; none leaves it to others")
	fs.StringVar(&o.ClusterDomain, "cluster-domain", o.ClusterDomain, "Domain of the cluster's DNS names")
	fs.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "File that names the resolvers for all other names")
	fs.BoolVar(&o.Cleanup, "cleanup", o.Cleanup, "Remove all rules of the proxy and exit")
	fs.Float32Var(&o.QPS, "kube-api-qps", o.QPS, "Requests per second to the API server")
	fs.IntVar(&o.Burst, "kube-api-burst", o.Burst, "Requests at once to the API server")
}

// Validate returns all faults, each naming its flag.
func (o *Options) Validate() []error {
	var errs []error
	if o.Kubeconfig == "" && !o.Cleanup {
		errs = append(errs, fmt.Errorf("--kubeconfig: required"))
	}
	if !slices.Contains([]string{"auto", "nftables", "ipvs"}, o.Mode) {
		errs = append(errs, fmt.Errorf("--proxy-mode: must be auto, nftables or ipvs, not %q", o.Mode))
	}
	for flag, texts := range map[string][]string{"--cluster-cidr": o.ClusterCIDR, "--nodeport-addresses": o.NodePortAddresses, "--service-cidr": o.ServiceCIDR} {
		for _, text := range texts {
			if _, err := netip.ParsePrefix(text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is not a range such as 10.0.0.0/16", flag, text))
			}
		}
	}
	for _, text := range o.ClusterDNS {
		if _, err := netip.ParseAddr(text); err != nil {
			errs = append(errs, fmt.Errorf("--cluster-dns: %q is not an IP address", text))
		}
	}
	for flag, text := range map[string]string{"--healthz-bind-address": o.HealthzBindAddress, "--metrics-bind-address": o.MetricsBindAddress} {
		if _, err := netip.ParseAddrPort(text); err != nil && text != "" {
			errs = append(errs, fmt.Errorf("%s: %q is not an address and port such as 127.0.0.1:10249", flag, text))
		}
	}
	if o.MinSyncPeriod < 0 || o.SyncPeriod < 0 {
		errs = append(errs, fmt.Errorf("--min-sync-period and --sync-period: must not be negative"))
	}
	return errs
}

// node is the name of this node.
func (o *Options) node() (string, error) {
	if o.Node != "" {
		return o.Node, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this node's name (give --hostname-override): %w", err)
	}
	return name, nil
}

// server makes a plain HTTP listener; nil when text is "".
func server(name, text string, config component.ServerConfig) *component.Server {
	at, err := netip.ParseAddrPort(text) // validated; "" is none
	if err != nil {
		return nil
	}
	config.Name, config.Address, config.Port = name, at.Addr().String(), int(at.Port())
	return component.NewServer(config)
}

// prefixes parses ranges that Validate has seen.
func prefixes(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}
