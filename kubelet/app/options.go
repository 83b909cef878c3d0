package app

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/kubeclient"
	"github.com/skeg-dev/skeg/kubelet/node"
)

// Options are the kubelet's settings, from flags and --config.
type Options struct {
	Config string

	API                 kubeclient.Options
	BootstrapKubeconfig string
	Server              string
	Token               string
	CACertHash          string
	RotateCertificates  bool
	RotateServerCerts   bool
	CertDir             string

	RootDir           string
	LogDir            string
	ManifestPath      string
	ManifestEvery     time.Duration
	ShimPath          string
	CgroupRoot        string
	RegistryConfigDir string
	SeccompDefault    bool
	PodPidsLimit      int64
	CPUQuota          bool
	MaxCrashBackOff   time.Duration

	HostnameOverride string
	NodeIP           string
	NodeLabels       map[string]string
	Taints           []string
	RegisterNode     bool
	MaxPods          int
	SystemReserved   map[string]string
	KubeReserved     map[string]string
	EvictionHard     map[string]string
	StatusEvery      time.Duration
	StatusReport     time.Duration
	LeaseDuration    time.Duration

	ClusterDNS    []string
	ClusterDomain string
	ResolvConf    string
	Bridge        string
	PodCIDR       string
	ClusterCIDR   string
	MTU           int

	SerializePulls   bool
	MaxParallelPulls int
	ImageGCHigh      int
	ImageGCLow       int
	LogMaxSize       string
	LogMaxFiles      int

	Address       string
	Port          int
	HealthAddress string
	HealthPort    int
	CertFile      string
	KeyFile       string
	Auth          component.DelegationOptions
	Gates         component.FeatureGates

	// unused are settings of the file that have no effect here.
	unused []string
}

// DefaultOptions are upstream's defaults, but for the runtime's seccomp profile
// and serving certificates from the cluster, which are on.
func DefaultOptions() *Options {
	return &Options{
		API:                kubeclient.DefaultOptions(100, 200),
		RotateCertificates: true, RotateServerCerts: true,
		RootDir: "/var/lib/kubelet", LogDir: "/var/log/pods", ManifestEvery: 20 * time.Second,
		CgroupRoot: "/", RegistryConfigDir: "/etc/containerd/certs.d", SeccompDefault: true, PodPidsLimit: -1, CPUQuota: true,
		RegisterNode: true, MaxPods: 110,
		EvictionHard: map[string]string{
			"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
		},
		StatusEvery: 10 * time.Second, StatusReport: 5 * time.Minute, LeaseDuration: 40 * time.Second,
		ClusterDomain: "cluster.local", ResolvConf: "/etc/resolv.conf",
		MaxParallelPulls: 8, ImageGCHigh: 85, ImageGCLow: 80, LogMaxSize: "10Mi", LogMaxFiles: 5,
		Address: "0.0.0.0", Port: 10250, HealthAddress: "127.0.0.1", HealthPort: 10248,
		Auth: component.DefaultDelegationOptions(),
	}
}

// AddFlags registers the flags under upstream's names.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.API.AddFlags(fs)
	component.AddFeatureGates(fs, &o.Gates)
	fs.StringVar(&o.Config, "config", o.Config, "KubeletConfiguration file (kubelet.config.k8s.io/v1beta1); flags win over it")
	component.InFlagGroup(fs, "Joining", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.BootstrapKubeconfig, "bootstrap-kubeconfig", o.BootstrapKubeconfig, "Kubeconfig to request a certificate with when --kubeconfig does not exist yet")
		fs.StringVar(&o.Server, "server", o.Server, "URL of the API server to join, with --token and --ca-cert-hash, instead of --bootstrap-kubeconfig")
		fs.StringVar(&o.Token, "token", o.Token, "Bootstrap token for --server")
		fs.StringVar(&o.CACertHash, "ca-cert-hash", o.CACertHash, "Hash of the cluster authority's public key (sha256:<hex>) for --server")
		fs.StringVar(&o.CertDir, "cert-dir", o.CertDir, "Where the node's certificates are kept; <root-dir>/pki if not given")
		fs.BoolVar(&o.RotateCertificates, "rotate-certificates", o.RotateCertificates, "Renew the client certificate before it expires")
		fs.BoolVar(&o.RotateServerCerts, "rotate-server-certificates", o.RotateServerCerts, "Request the serving certificate from the cluster; otherwise it is self-signed")
	})
	component.InFlagGroup(fs, "Node", o.nodeFlags)
	component.InFlagGroup(fs, "Pods", o.podFlags)
	component.InFlagGroup(fs, "Images and logs", o.imageFlags)
	component.InFlagGroup(fs, "Serving", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.Address, "address", o.Address, "Address of the kubelet's API")
		fs.IntVar(&o.Port, "port", o.Port, "Port of the kubelet's API")
		fs.StringVar(&o.HealthAddress, "healthz-bind-address", o.HealthAddress, "Address of the health endpoint")
		fs.IntVar(&o.HealthPort, "healthz-port", o.HealthPort, "Port of the health endpoint; 0 serves none")
		fs.StringVar(&o.CertFile, "tls-cert-file", o.CertFile, "PEM file with the serving certificate")
		fs.StringVar(&o.KeyFile, "tls-private-key-file", o.KeyFile, "PEM file with the key of --tls-cert-file")
		fs.StringVar(&o.Auth.ClientCAFile, "client-ca-file", o.Auth.ClientCAFile, "Authority of client certificates; the cluster's if not given")
	})
}

func (o *Options) nodeFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.HostnameOverride, "hostname-override", o.HostnameOverride, "Name of the node; the host's name if not given")
	fs.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "Address of the node (or one of each family, with a comma); found if not given")
	fs.StringToStringVar(&o.NodeLabels, "node-labels", o.NodeLabels, "Labels of a new node (key=value,...)")
	fs.StringSliceVar(&o.Taints, "register-with-taints", o.Taints, "Taints of a new node (key=value:effect,...)")
	fs.BoolVar(&o.RegisterNode, "register-node", o.RegisterNode, "Create the Node object")
	fs.IntVar(&o.MaxPods, "max-pods", o.MaxPods, "Most Pods on the node")
	fs.StringToStringVar(&o.SystemReserved, "system-reserved", o.SystemReserved, "Resources kept for the system (cpu=100m,memory=200Mi,...)")
	fs.StringToStringVar(&o.KubeReserved, "kube-reserved", o.KubeReserved, "Resources kept for Kubernetes' own processes")
	fs.Var(&thresholds{&o.EvictionHard}, "eviction-hard", "Evict Pods when less than this is left (memory.available<100Mi,...)")
	fs.DurationVar(&o.StatusEvery, "node-status-update-frequency", o.StatusEvery, "How often the node looks at itself")
	fs.StringVar(&o.Bridge, "pod-bridge", o.Bridge, "Name of the bridge that Pods are connected to; skeg0 if not given")
	fs.StringVar(&o.PodCIDR, "pod-cidr", o.PodCIDR, "Range of the node's Pods; that of the Node object if not given")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "Further ranges that Pods reach with their own addresses, separated by commas")
	fs.IntVar(&o.MTU, "pod-mtu", o.MTU, "MTU of Pods' links; that of the default route's if 0")
}

func (o *Options) podFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.RootDir, "root-dir", o.RootDir, "Directory of Pods, images and state")
	fs.StringVar(&o.LogDir, "pod-log-dir", o.LogDir, "Directory of Pods' logs")
	fs.StringVar(&o.ManifestPath, "pod-manifest-path", o.ManifestPath, "Directory (or file) of static Pods")
	fs.DurationVar(&o.ManifestEvery, "file-check-frequency", o.ManifestEvery, "How often manifests are read even without notice of a change")
	fs.StringVar(&o.ShimPath, "shim-path", o.ShimPath, "The kubelet-shim binary; beside the kubelet's if not given")
	fs.StringVar(&o.CgroupRoot, "cgroup-root", o.CgroupRoot, "Control group under which Pods' are made")
	fs.BoolVar(&o.SeccompDefault, "seccomp-default", o.SeccompDefault, "Use the runtime's seccomp profile where a Pod names none")
	fs.Int64Var(&o.PodPidsLimit, "pod-max-pids", o.PodPidsLimit, "Most processes of a Pod; -1 is no limit")
	fs.BoolVar(&o.CPUQuota, "cpu-cfs-quota", o.CPUQuota, "Enforce CPU limits")
	fs.StringSliceVar(&o.ClusterDNS, "cluster-dns", o.ClusterDNS, "Addresses of the cluster's DNS")
	fs.StringVar(&o.ClusterDomain, "cluster-domain", o.ClusterDomain, "Domain of the cluster")
	fs.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "The node's resolver configuration, for Pods with dnsPolicy Default")
}

func (o *Options) imageFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.RegistryConfigDir, "registry-config-dir", o.RegistryConfigDir, "Directory of <registry>/hosts.toml files, as containerd reads them: mirrors and their settings")
	fs.BoolVar(&o.SerializePulls, "serialize-image-pulls", o.SerializePulls, "Pull one image at a time")
	fs.IntVar(&o.MaxParallelPulls, "max-parallel-image-pulls", o.MaxParallelPulls, "Most pulls at the same time")
	fs.IntVar(&o.ImageGCHigh, "image-gc-high-threshold", o.ImageGCHigh, "Percent of disk use above which unused images are removed")
	fs.IntVar(&o.ImageGCLow, "image-gc-low-threshold", o.ImageGCLow, "Percent of disk use down to which they are removed")
	fs.StringVar(&o.LogMaxSize, "container-log-max-size", o.LogMaxSize, "Size at which a container's log is rotated")
	fs.IntVar(&o.LogMaxFiles, "container-log-max-files", o.LogMaxFiles, "Files kept of a container's log")
}

// Validate returns every fault, naming flags.
func (o *Options) Validate() []error {
	errs := append(o.API.Validate(), o.validateNode()...)
	if o.Server != "" || o.Token != "" || o.CACertHash != "" {
		errs = append(errs, o.join().Validate()...)
		if o.BootstrapKubeconfig != "" {
			errs = append(errs, errors.New("--bootstrap-kubeconfig: give either it or --server"))
		}
	}
	for flag, port := range map[string]int{"--port": o.Port, "--healthz-port": o.HealthPort} {
		if port < 0 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is not between 0 and 65535", flag, port))
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file: give both or neither"))
	}
	for _, address := range o.ClusterDNS {
		if _, err := netip.ParseAddr(address); err != nil {
			errs = append(errs, fmt.Errorf("--cluster-dns: %q is not an address", address))
		}
	}
	for _, cidr := range append(o.clusterCIDRs(), o.PodCIDR) {
		if cidr == "" {
			continue
		}
		if _, err := netip.ParsePrefix(cidr); err != nil {
			errs = append(errs, fmt.Errorf("--pod-cidr, --cluster-cidr: %q is not a range", cidr))
		}
	}
	if o.MaxParallelPulls < 1 {
		errs = append(errs, errors.New("--max-parallel-image-pulls: must be at least 1"))
	}
	if o.ImageGCLow < 0 || o.ImageGCHigh > 100 || o.ImageGCLow >= o.ImageGCHigh {
		errs = append(errs, errors.New("--image-gc-low-threshold: must be below --image-gc-high-threshold, both between 0 and 100"))
	}
	if o.LogMaxFiles < 2 {
		errs = append(errs, errors.New("--container-log-max-files: must be at least 2"))
	}
	if _, err := parseBytes(o.LogMaxSize); err != nil {
		errs = append(errs, fmt.Errorf("--container-log-max-size: %w", err))
	}
	if o.RootDir == "" || o.LogDir == "" {
		errs = append(errs, errors.New("--root-dir and --pod-log-dir: must not be empty"))
	}
	return errs
}

func (o *Options) validateNode() []error {
	var errs []error
	if o.HostnameOverride != "" {
		if faults := validation.IsDNS1123Subdomain(strings.ToLower(o.HostnameOverride)); len(faults) > 0 {
			errs = append(errs, fmt.Errorf("--hostname-override: %q: %s", o.HostnameOverride, strings.Join(faults, "; ")))
		}
	}
	if _, err := parseIPs(o.NodeIP); err != nil {
		errs = append(errs, fmt.Errorf("--node-ip: %w", err))
	}
	for key, value := range o.NodeLabels {
		if faults := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(faults) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: %s=%s: %s", key, value, strings.Join(faults, "; ")))
		}
	}
	if _, err := parseTaints(o.Taints); err != nil {
		errs = append(errs, fmt.Errorf("--register-with-taints: %w", err))
	}
	for flag, list := range map[string]map[string]string{"--system-reserved": o.SystemReserved, "--kube-reserved": o.KubeReserved} {
		if _, err := parseReserved(list); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	if _, err := o.thresholds(); err != nil {
		errs = append(errs, fmt.Errorf("--eviction-hard: %w", err))
	}
	if o.MaxPods < 1 {
		errs = append(errs, errors.New("--max-pods: must be at least 1"))
	}
	if o.StatusEvery <= 0 || o.LeaseDuration < 4*time.Second {
		errs = append(errs, errors.New("--node-status-update-frequency and the lease duration: must be positive, the latter at least 4s"))
	}
	return errs
}

func (o *Options) join() node.Join {
	return node.Join{Server: o.Server, Token: o.Token, CACertHash: o.CACertHash}
}

func (o *Options) clusterCIDRs() []string {
	if o.ClusterCIDR == "" {
		return nil
	}
	return strings.Split(o.ClusterCIDR, ",")
}

// complete fills what depends on other settings or the host.
func (o *Options) complete() error {
	for _, path := range []*string{&o.RootDir, &o.LogDir, &o.CertDir, &o.ManifestPath} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find %s: %w", *path, err)
		}
		*path = absolute
	}
	if o.CertDir == "" {
		o.CertDir = filepath.Join(o.RootDir, "pki")
	}
	if o.HostnameOverride == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read host name: %w", err)
		}
		o.HostnameOverride = name
	}
	o.HostnameOverride = strings.ToLower(strings.TrimSpace(o.HostnameOverride))
	if o.ShimPath == "" {
		own, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own binary: %w", err)
		}
		o.ShimPath = filepath.Join(filepath.Dir(own), "kubelet-shim")
	}
	if _, err := os.Stat(o.ShimPath); err != nil {
		return fmt.Errorf("find shim (--shim-path): %w", err)
	}
	if o.Server != "" {
		o.BootstrapKubeconfig = filepath.Join(o.RootDir, "bootstrap-kubelet.conf")
	}
	return nil
}

func (o *Options) taints() []corev1.Taint {
	taints, err := parseTaints(o.Taints)
	if err != nil {
		return nil // Validate has seen it
	}
	return taints
}
