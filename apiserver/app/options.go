package app

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/skeg-dev/skeg/internal/component"
)

// Options are the API server's settings, under upstream's flag names.
type Options struct {
	Serving component.ServingOptions
	// AdvertiseAddress is where clients in the cluster reach this server; ""
	// means the address of the default route's interface, or loopback.
	AdvertiseAddress string
	// ExternalHostnames are further names of the serving certificate.
	ExternalHostnames []string

	Etcd EtcdOptions

	// PKIDir holds authorities, certificates and the service-account keys;
	// KubeconfigDir the components' kubeconfigs. Both are made on first start.
	PKIDir        string
	KubeconfigDir string
	// ClientCAFile verifies client certificates; "" means PKIDir/ca.crt.
	ClientCAFile string
	// Kubelet* reach kubelets; "" means files of PKIDir.
	KubeletCertificateAuthority string
	KubeletClientCertificate    string
	KubeletClientKey            string
	KubeletAddressTypes         []string

	ServiceClusterIPRange string
	ServiceNodePortRange  utilnet.PortRange
	ClusterDomain         string

	ServiceAccountIssuer        string
	ServiceAccountKeyFiles      []string
	ServiceAccountSigningKey    string
	ServiceAccountMaxExpiration time.Duration
	ServiceAccountExtend        bool
	APIAudiences                []string

	AuthorizationModes  []string
	AnonymousAuth       bool
	BootstrapTokenAuth  bool
	EnableAdmission     []string
	DisableAdmission    []string
	RequestTimeout      time.Duration
	MaxInFlight         int
	MaxMutatingInFlight int
	EventTTL            time.Duration
	ShutdownDelay       time.Duration
	Profiling           bool
	AllowPrivileged     bool
	FeatureGates        component.FeatureGates

	// Listener, when not nil, is served instead of --bind-address and
	// --secure-port; for servers inside other processes.
	Listener net.Listener
}

// EtcdOptions say which etcd is used.
type EtcdOptions struct {
	// Servers are an etcd of somebody else; empty runs one in this process.
	Servers                   []string
	CAFile, CertFile, KeyFile string
	// DataDir is where the etcd of this process keeps its data.
	DataDir string
	Prefix  string
	// CompactionInterval is how long history is kept.
	CompactionInterval time.Duration
	// UnsafeNoFsync is for tests only: a crash of the machine then loses writes.
	UnsafeNoFsync bool
}

// Defaults of upstream, and of this project for what upstream has none.
const (
	defaultPort          = 6443
	defaultServiceRange  = "10.96.0.0/12"
	defaultIssuer        = "https://kubernetes.default.svc.cluster.local"
	defaultRequestLimit  = 400
	defaultMutatingLimit = 200
)

// DefaultOptions returns the settings used when no flag says otherwise.
func DefaultOptions() *Options {
	return &Options{
		Serving: component.ServingOptions{BindAddress: "0.0.0.0", Port: defaultPort},
		Etcd: EtcdOptions{
			DataDir: "/var/lib/skeg/etcd", Prefix: "/registry", CompactionInterval: 5 * time.Minute,
		},
		PKIDir: "/etc/kubernetes/pki", KubeconfigDir: "/etc/kubernetes",
		KubeletAddressTypes:   []string{"InternalIP", "ExternalIP", "Hostname"},
		ServiceClusterIPRange: defaultServiceRange,
		ServiceNodePortRange:  utilnet.PortRange{Base: 30000, Size: 2768},
		ClusterDomain:         "cluster.local",
		ServiceAccountIssuer:  defaultIssuer, ServiceAccountExtend: true,
		AuthorizationModes: []string{"Node", "RBAC"}, AnonymousAuth: true, BootstrapTokenAuth: true,
		RequestTimeout: time.Minute, MaxInFlight: defaultRequestLimit, MaxMutatingInFlight: defaultMutatingLimit,
		EventTTL: time.Hour, Profiling: true, AllowPrivileged: true,
	}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.addServingFlags(fs)
	o.addEtcdFlags(fs)
	o.addAuthFlags(fs)
	component.InFlagGroup(fs, "Cluster", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ServiceClusterIPRange, "service-cluster-ip-range", o.ServiceClusterIPRange, "CIDR (or two, comma-separated, of different families) for Service IPs")
		fs.Var(&o.ServiceNodePortRange, "service-node-port-range", "Ports for Services of type NodePort, e.g. 30000-32767")
		fs.StringVar(&o.ClusterDomain, "cluster-domain", o.ClusterDomain, "DNS domain of Services, part of the serving certificate's names")
		fs.StringVar(&o.KubeletCertificateAuthority, "kubelet-certificate-authority", o.KubeletCertificateAuthority, "PEM file with the authority of kubelets' serving certificates (default: the cluster's)")
		fs.StringVar(&o.KubeletClientCertificate, "kubelet-client-certificate", o.KubeletClientCertificate, "Client certificate shown to kubelets (default: made here)")
		fs.StringVar(&o.KubeletClientKey, "kubelet-client-key", o.KubeletClientKey, "Key of --kubelet-client-certificate")
		fs.StringSliceVar(&o.KubeletAddressTypes, "kubelet-preferred-address-types", o.KubeletAddressTypes, "Node address types to reach kubelets by, in order")
		fs.DurationVar(&o.EventTTL, "event-ttl", o.EventTTL, "How long Events are kept")
		fs.BoolVar(&o.AllowPrivileged, "allow-privileged", o.AllowPrivileged, "Permit privileged containers")
	})
	component.InFlagGroup(fs, "Admission", func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&o.EnableAdmission, "enable-admission-plugins", o.EnableAdmission, "Admission plugins to run besides the default ones")
		fs.StringSliceVar(&o.DisableAdmission, "disable-admission-plugins", o.DisableAdmission, "Admission plugins not to run")
	})
	component.AddFeatureGates(fs, &o.FeatureGates)
}

func (o *Options) addServingFlags(fs *pflag.FlagSet) {
	o.Serving.CertDir = o.PKIDir
	o.Serving.AddFlags(fs) // brings --cert-dir, which names PKIDir
	component.InFlagGroup(fs, "Serving", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.AdvertiseAddress, "advertise-address", o.AdvertiseAddress, "IP address at which the cluster reaches this server (default: the host's)")
		fs.StringSliceVar(&o.ExternalHostnames, "external-hostname", o.ExternalHostnames, "Further names and addresses for the serving certificate")
		fs.StringVar(&o.KubeconfigDir, "kubeconfig-dir", o.KubeconfigDir, "Where the components' kubeconfigs are written on first start")
		fs.DurationVar(&o.RequestTimeout, "request-timeout", o.RequestTimeout, "Time after which a request that is not long-running is given up")
		fs.IntVar(&o.MaxInFlight, "max-requests-inflight", o.MaxInFlight, "Reading requests at a time; 0 is no limit")
		fs.IntVar(&o.MaxMutatingInFlight, "max-mutating-requests-inflight", o.MaxMutatingInFlight, "Writing requests at a time; 0 is no limit")
		fs.DurationVar(&o.ShutdownDelay, "shutdown-delay-duration", o.ShutdownDelay, "Time to go on serving after being told to stop, while /readyz already fails")
		fs.BoolVar(&o.Profiling, "profiling", o.Profiling, "Serve /debug/pprof/")
	})
}

func (o *Options) addEtcdFlags(fs *pflag.FlagSet) {
	component.InFlagGroup(fs, "etcd", func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&o.Etcd.Servers, "etcd-servers", o.Etcd.Servers, "URLs of an etcd to use; without it one runs in this process")
		fs.StringVar(&o.Etcd.CAFile, "etcd-cafile", o.Etcd.CAFile, "PEM file with the authority of --etcd-servers")
		fs.StringVar(&o.Etcd.CertFile, "etcd-certfile", o.Etcd.CertFile, "Client certificate for --etcd-servers")
		fs.StringVar(&o.Etcd.KeyFile, "etcd-keyfile", o.Etcd.KeyFile, "Key of --etcd-certfile")
		fs.StringVar(&o.Etcd.Prefix, "etcd-prefix", o.Etcd.Prefix, "Key prefix of everything kept")
		fs.StringVar(&o.Etcd.DataDir, "etcd-data-dir", o.Etcd.DataDir, "Directory of the etcd in this process")
		fs.DurationVar(&o.Etcd.CompactionInterval, "etcd-compaction-interval", o.Etcd.CompactionInterval, "How long history is kept; 0 is for ever")
	})
}

func (o *Options) addAuthFlags(fs *pflag.FlagSet) {
	component.InFlagGroup(fs, "Authentication", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ClientCAFile, "client-ca-file", o.ClientCAFile, "PEM file with the authority of client certificates (default: the cluster's)")
		fs.BoolVar(&o.AnonymousAuth, "anonymous-auth", o.AnonymousAuth, "Answer health paths and /version without credentials")
		fs.BoolVar(&o.BootstrapTokenAuth, "enable-bootstrap-token-auth", o.BootstrapTokenAuth, "Accept bootstrap tokens of kube-system")
		fs.StringVar(&o.ServiceAccountIssuer, "service-account-issuer", o.ServiceAccountIssuer, "Issuer of service-account tokens")
		fs.StringSliceVar(&o.ServiceAccountKeyFiles, "service-account-key-file", o.ServiceAccountKeyFiles, "PEM files with keys that verify tokens (default: the signing key)")
		fs.StringVar(&o.ServiceAccountSigningKey, "service-account-signing-key-file", o.ServiceAccountSigningKey, "PEM file with the key that signs tokens (default: made here)")
		fs.DurationVar(&o.ServiceAccountMaxExpiration, "service-account-max-token-expiration", o.ServiceAccountMaxExpiration, "Longest life of a requested token; 0 is no limit")
		fs.BoolVar(&o.ServiceAccountExtend, "service-account-extend-token-expiration", o.ServiceAccountExtend, "Let projected tokens live a year, for clients that do not reload them")
		fs.StringSliceVar(&o.APIAudiences, "api-audiences", o.APIAudiences, "Audiences of tokens meant for this server (default: the issuer)")
	})
	component.InFlagGroup(fs, "Authorization", func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&o.AuthorizationModes, "authorization-mode", o.AuthorizationModes, "Authorizers in order: Node, RBAC, AlwaysAllow, AlwaysDeny")
	})
}

// Validate returns every fault, naming flags.
func (o *Options) Validate() []error {
	if o.Serving.CertDir != "" {
		o.PKIDir = o.Serving.CertDir
	}
	errs := o.Serving.Validate()
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.Serving.Port == 0, "--secure-port: must not be 0")
	fault(o.AdvertiseAddress != "" && net.ParseIP(o.AdvertiseAddress) == nil, "--advertise-address: %q is not an IP address", o.AdvertiseAddress)
	fault(o.PKIDir == "", "--cert-dir: must not be empty")
	fault(o.KubeconfigDir == "", "--kubeconfig-dir: must not be empty")
	fault(len(o.Etcd.Servers) == 0 && o.Etcd.DataDir == "", "--etcd-data-dir: must not be empty without --etcd-servers")
	fault((o.Etcd.CertFile == "") != (o.Etcd.KeyFile == ""), "--etcd-certfile, --etcd-keyfile: one without the other")
	fault(!strings.HasPrefix(o.Etcd.Prefix, "/"), "--etcd-prefix: %q does not start with /", o.Etcd.Prefix)
	fault(o.Etcd.CompactionInterval < 0, "--etcd-compaction-interval: must not be negative")
	fault((o.KubeletClientCertificate == "") != (o.KubeletClientKey == ""), "--kubelet-client-certificate, --kubelet-client-key: one without the other")
	fault(o.ServiceAccountIssuer == "", "--service-account-issuer: must not be empty")
	fault(o.RequestTimeout <= 0, "--request-timeout: must be positive")
	fault(o.MaxInFlight < 0, "--max-requests-inflight: must not be negative")
	fault(o.MaxMutatingInFlight < 0, "--max-mutating-requests-inflight: must not be negative")
	fault(o.EventTTL < 0, "--event-ttl: must not be negative")
	fault(o.ShutdownDelay < 0, "--shutdown-delay-duration: must not be negative")
	fault(o.ServiceNodePortRange.Size == 0, "--service-node-port-range: must not be empty")
	if _, err := o.serviceRanges(); err != nil {
		errs = append(errs, err)
	}
	return append(errs, o.validateModes()...)
}

// authorizationModes are the known values of --authorization-mode.
var authorizationModes = []string{"Node", "RBAC", "AlwaysAllow", "AlwaysDeny"}

func (o *Options) validateModes() []error {
	var errs []error
	if len(o.AuthorizationModes) == 0 {
		errs = append(errs, errors.New("--authorization-mode: must not be empty"))
	}
	for _, mode := range o.AuthorizationModes {
		if !slices.Contains(authorizationModes, mode) {
			errs = append(errs, fmt.Errorf("--authorization-mode: %q is not one of %s", mode, strings.Join(authorizationModes, ", ")))
		}
	}
	return errs
}

// serviceRanges parses --service-cluster-ip-range.
func (o *Options) serviceRanges() ([]*net.IPNet, error) {
	var out []*net.IPNet
	for part := range strings.SplitSeq(o.ServiceClusterIPRange, ",") {
		_, cidr, err := net.ParseCIDR(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		out = append(out, cidr)
	}
	switch {
	case len(out) > 2:
		return nil, errors.New("--service-cluster-ip-range: more than two ranges")
	case len(out) == 2 && (out[0].IP.To4() == nil) == (out[1].IP.To4() == nil):
		return nil, errors.New("--service-cluster-ip-range: two ranges must be of different families")
	}
	return out, nil
}

// pki returns a file of PKIDir, unless given names one.
func (o *Options) pki(given, file string) string {
	if given != "" {
		return given
	}
	return filepath.Join(o.PKIDir, file)
}
