package app

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/skeg-dev/skeg/controller-manager/controllers/nodeipam"
	"github.com/skeg-dev/skeg/controller-manager/controllers/nodelifecycle"
	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/kubeclient"
)

// Options are the settings of the controller manager; names and defaults are
// upstream's, except for the client limits, which are higher.
type Options struct {
	Client     kubeclient.Options
	Leader     component.LeaderOptions
	Serving    component.ServingOptions
	Delegation component.DelegationOptions

	// Controllers selects what runs: "*", "name", "-name".
	Controllers []string
	// Workers are the numbers of --concurrent-<kind>-syncs, by that kind.
	Workers map[string]*int

	ClusterCIDRs       []string
	ServiceCIDRs       []string
	AllocateNodeCIDRs  bool
	NodeMask           int
	NodeMask4          int
	NodeMask6          int
	Node               nodelifecycle.Config
	EndpointsPerSlice  int
	TerminatedPodLimit int

	RootCAFile      string
	Signing         keyFiles
	SigningBySigner map[string]*keyFiles
	SigningDuration time.Duration
	ApproveServing  bool

	// Accepted are flags of upstream that change nothing here.
	Accepted accepted
}

// keyFiles name a certificate authority.
type keyFiles struct{ Cert, Key string }

// accepted holds the values of flags that are understood and without effect.
type accepted struct {
	serviceAccountKey   string
	useCredentials      bool
	clusterName         string
	cloudProvider       string
	configureRoutes     bool
	minResync           time.Duration
	clientCAHeader      string
	headerUsername      []string
	headerGroup         []string
	headerExtra         []string
	headerAllowed       []string
	gates               component.FeatureGates
	volumePluginDir     string
	cidrAllocatorType   string
	authSkipLookup      bool
	profiling           bool
	contentionProfiling bool
}

// concurrency lists the --concurrent-*-syncs flags with upstream's defaults.
var concurrency = map[string]int{
	"deployment": 5, "replicaset": 5, "rc": 5, "statefulset": 5, "daemonset": 2, "job": 5, "cron-job": 5,
	"endpoint": 5, "service-endpoint": 5, "namespace": 10, "gc": 20, "serviceaccount-token": 5,
	"resource-quota": 5, "ttl-after-finished": 5, "horizontal-pod-autoscaler": 5, "ephemeralvolume": 5,
	"validating-admission-policy-status": 5,
}

// signers are those with their own --cluster-signing-<name>-cert-file flags.
var signers = map[string]string{
	"kubelet-serving":       certificatesv1.KubeletServingSignerName,
	"kubelet-client":        certificatesv1.KubeAPIServerClientKubeletSignerName,
	"kube-apiserver-client": certificatesv1.KubeAPIServerClientSignerName,
	"legacy-unknown":        "kubernetes.io/legacy-unknown",
}

// DefaultOptions returns the defaults.
func DefaultOptions() *Options {
	o := &Options{
		Client:      kubeclient.DefaultOptions(500, 1000),
		Leader:      component.DefaultLeaderOptions("kube-controller-manager"),
		Serving:     component.ServingOptions{BindAddress: "0.0.0.0", Port: 10257, PairName: "kube-controller-manager"},
		Delegation:  component.DefaultDelegationOptions(),
		Controllers: []string{"*"},
		Workers:     map[string]*int{},
		// Asked for by naming a cluster CIDR; upstream wants the flag too.
		AllocateNodeCIDRs: true, NodeMask: 0, NodeMask4: 24, NodeMask6: 64,
		Node: nodelifecycle.Defaults(), EndpointsPerSlice: 100, TerminatedPodLimit: 12500,
		SigningBySigner: map[string]*keyFiles{}, SigningDuration: 365 * 24 * time.Hour, ApproveServing: true,
	}
	for kind, n := range concurrency {
		o.Workers[kind] = &n
	}
	for name := range signers {
		o.SigningBySigner[name] = &keyFiles{}
	}
	return o
}

// AddFlags implements component.Options.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.Client.AddFlags(fs)
	o.Leader.AddFlags(fs)
	o.Serving.AddFlags(fs)
	o.Delegation.AddFlags(fs)
	fs.StringSliceVar(&o.Controllers, "controllers", o.Controllers, "Controllers to run: '*' for all that are on by default, 'name' to add, '-name' to leave out. All: "+strings.Join(names(), ", "))
	component.InFlagGroup(fs, "Concurrency", func(fs *pflag.FlagSet) {
		for kind, n := range o.Workers {
			fs.IntVar(n, "concurrent-"+kind+"-syncs", *n, "Objects of this kind that are worked on at once")
		}
	})
	component.InFlagGroup(fs, "Network", o.addNetworkFlags)
	component.InFlagGroup(fs, "Nodes and pods", o.addNodeFlags)
	component.InFlagGroup(fs, "Certificates", o.addCertificateFlags)
	component.InFlagGroup(fs, "Accepted without effect", o.Accepted.addFlags)
}

func (o *Options) addNetworkFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.ClusterCIDRs, "cluster-cidr", o.ClusterCIDRs, "Networks of the pods, one an address family")
	fs.StringSliceVar(&o.ServiceCIDRs, "service-cluster-ip-range", o.ServiceCIDRs, "Networks of the Services, not given to nodes")
	fs.BoolVar(&o.AllocateNodeCIDRs, "allocate-node-cidrs", o.AllocateNodeCIDRs, "Give each node a part of --cluster-cidr")
	fs.IntVar(&o.NodeMask, "node-cidr-mask-size", o.NodeMask, "Prefix length of a node's network; 0 means 24 for IPv4, 64 for IPv6")
	fs.IntVar(&o.NodeMask4, "node-cidr-mask-size-ipv4", o.NodeMask4, "Prefix length of a node's IPv4 network")
	fs.IntVar(&o.NodeMask6, "node-cidr-mask-size-ipv6", o.NodeMask6, "Prefix length of a node's IPv6 network")
	fs.IntVar(&o.EndpointsPerSlice, "max-endpoints-per-slice", o.EndpointsPerSlice, "Endpoints in one EndpointSlice, at most 1000")
}

func (o *Options) addNodeFlags(fs *pflag.FlagSet) {
	n := &o.Node
	fs.DurationVar(&n.MonitorPeriod, "node-monitor-period", n.MonitorPeriod, "Time between two looks at all nodes")
	fs.DurationVar(&n.GracePeriod, "node-monitor-grace-period", n.GracePeriod, "How long a node may be silent before it counts as lost")
	fs.DurationVar(&n.StartupGracePeriod, "node-startup-grace-period", n.StartupGracePeriod, "The same for a node that has not reported yet")
	fs.Float64Var(&n.EvictionRate, "node-eviction-rate", n.EvictionRate, "Lost nodes a second whose pods are evicted in a healthy zone")
	fs.Float64Var(&n.SecondaryRate, "secondary-node-eviction-rate", n.SecondaryRate, "The same in a large zone that is partly lost; 0 in a small one")
	fs.IntVar(&n.LargeZone, "large-cluster-size-threshold", n.LargeZone, "Nodes from which a zone is large")
	fs.Float64Var(&n.UnhealthyShare, "unhealthy-zone-threshold", n.UnhealthyShare, "Share of lost nodes from which a zone is partly lost")
	fs.IntVar(&o.TerminatedPodLimit, "terminated-pod-gc-threshold", o.TerminatedPodLimit, "Ended pods that are kept; 0 keeps all")
}

func (o *Options) addCertificateFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.RootCAFile, "root-ca-file", o.RootCAFile, "CA certificates published in every namespace; the kubeconfig's if not given")
	fs.StringVar(&o.Signing.Cert, "cluster-signing-cert-file", o.Signing.Cert, "CA certificate that signs requests; without it none are signed")
	fs.StringVar(&o.Signing.Key, "cluster-signing-key-file", o.Signing.Key, "Key of --cluster-signing-cert-file")
	fs.DurationVar(&o.SigningDuration, "cluster-signing-duration", o.SigningDuration, "Longest and default lifetime of a signed certificate")
	for name, files := range o.SigningBySigner {
		fs.StringVar(&files.Cert, "cluster-signing-"+name+"-cert-file", files.Cert, "CA certificate for this signer instead")
		fs.StringVar(&files.Key, "cluster-signing-"+name+"-key-file", files.Key, "Its key")
	}
	fs.BoolVar(&o.ApproveServing, "approve-kubelet-serving", o.ApproveServing, "Approve serving certificates of kubelets for the names and addresses of their Node")
}

func (a *accepted) addFlags(fs *pflag.FlagSet) {
	const why = "Accepted for compatibility"
	fs.StringVar(&a.serviceAccountKey, "service-account-private-key-file", "", why+"; tokens come from the API server")
	fs.BoolVar(&a.useCredentials, "use-service-account-credentials", false, why+"; all controllers share one identity")
	fs.StringVar(&a.clusterName, "cluster-name", "kubernetes", why)
	fs.StringVar(&a.cloudProvider, "cloud-provider", "", why)
	fs.BoolVar(&a.configureRoutes, "configure-cloud-routes", true, why)
	fs.DurationVar(&a.minResync, "min-resync-period", 12*time.Hour, why)
	fs.StringVar(&a.clientCAHeader, "requestheader-client-ca-file", "", why)
	fs.StringSliceVar(&a.headerUsername, "requestheader-username-headers", nil, why)
	fs.StringSliceVar(&a.headerGroup, "requestheader-group-headers", nil, why)
	fs.StringSliceVar(&a.headerExtra, "requestheader-extra-headers-prefix", nil, why)
	fs.StringSliceVar(&a.headerAllowed, "requestheader-allowed-names", nil, why)
	fs.StringVar(&a.volumePluginDir, "flex-volume-plugin-dir", "", why)
	fs.StringVar(&a.cidrAllocatorType, "cidr-allocator-type", "RangeAllocator", why)
	fs.BoolVar(&a.authSkipLookup, "authentication-skip-lookup", false, why)
	fs.BoolVar(&a.profiling, "profiling", true, why)
	fs.BoolVar(&a.contentionProfiling, "contention-profiling", false, why)
	component.AddFeatureGates(fs, &a.gates)
}

// Validate implements component.Options.
func (o *Options) Validate() []error {
	errs := slices.Concat(o.Client.Validate(), o.Leader.Validate(), o.Serving.Validate())
	if _, err := o.ranges(); err != nil {
		errs = append(errs, fmt.Errorf("--cluster-cidr: %w", err))
	}
	if _, err := prefixes(o.ServiceCIDRs); err != nil {
		errs = append(errs, fmt.Errorf("--service-cluster-ip-range: %w", err))
	}
	if (o.Signing.Cert == "") != (o.Signing.Key == "") {
		errs = append(errs, fmt.Errorf("--cluster-signing-cert-file and --cluster-signing-key-file: give both or neither"))
	}
	if o.EndpointsPerSlice < 1 || o.EndpointsPerSlice > 1000 {
		errs = append(errs, fmt.Errorf("--max-endpoints-per-slice: %d is not between 1 and 1000", o.EndpointsPerSlice))
	}
	if o.Node.MonitorPeriod <= 0 || o.Node.GracePeriod <= 0 {
		errs = append(errs, fmt.Errorf("--node-monitor-period and --node-monitor-grace-period: must be positive"))
	}
	for kind, n := range o.Workers {
		if *n < 1 {
			errs = append(errs, fmt.Errorf("--concurrent-%s-syncs: must be at least 1", kind))
		}
	}
	for _, name := range o.Controllers {
		bare := strings.TrimPrefix(name, "-")
		if bare != "*" && canonical(bare) == "" {
			errs = append(errs, fmt.Errorf("--controllers: %q is not the name of a controller", bare))
		}
	}
	return errs
}

// ranges returns the node networks to allocate from, none when that is off.
func (o *Options) ranges() ([]nodeipam.Range, error) {
	cidrs, err := prefixes(o.ClusterCIDRs)
	if err != nil || !o.AllocateNodeCIDRs {
		return nil, err
	}
	var all []nodeipam.Range
	for _, cidr := range cidrs {
		mask := o.NodeMask4
		if cidr.Addr().Is6() {
			mask = o.NodeMask6
		}
		if o.NodeMask != 0 {
			mask = o.NodeMask
		}
		if mask < cidr.Bits() || mask > cidr.Addr().BitLen() {
			return nil, fmt.Errorf("%s has no networks of length %d", cidr, mask)
		}
		all = append(all, nodeipam.Range{CIDR: cidr, NodeMask: mask})
	}
	return all, nil
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("parse %q: %w", text, err)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// enabled reports whether --controllers selects the controller.
func (o *Options) enabled(e entry) bool {
	all := false
	for _, name := range o.Controllers {
		switch {
		case canonical(name) == e.name:
			return true
		case strings.HasPrefix(name, "-") && canonical(name[1:]) == e.name:
			return false
		case name == "*":
			all = true
		}
	}
	return all && !e.off
}

// workers is how many objects the controller works on at once.
func (o *Options) workers(e entry) int {
	if n, ok := o.Workers[e.workers]; ok {
		return *n
	}
	return max(e.atOnce, 1)
}
