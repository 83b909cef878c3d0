// Package kubeclient makes clients for the API server the same way in every
// binary: rest.Config from a kubeconfig or from inside a cluster, protobuf,
// rate limits, a user agent, and informers that keep no managed fields.
// Called by each app/; it calls client-go. It starts no goroutines.
package kubeclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/skeg-dev/skeg/internal/component"
)

// Content types a client can speak.
const (
	JSON     = "application/json"
	Protobuf = "application/vnd.kubernetes.protobuf"
)

// Options are upstream's flags for reaching the API server.
type Options struct {
	// Kubeconfig is a file; "" means the pod's service account, when there is one.
	Kubeconfig string
	// Master overrides the server's URL.
	Master string
	// ContentType of requests and answers; JSON always stays acceptable.
	ContentType string
	// QPS and Burst limit requests; QPS < 0 is unlimited.
	QPS   float32
	Burst int32
}

// DefaultOptions returns protobuf and the given limits.
func DefaultOptions(qps float32, burst int32) Options {
	return Options{ContentType: Protobuf, QPS: qps, Burst: burst}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	component.InFlagGroup(fs, "API server", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Kubeconfig file; inside a cluster the service account if not given")
		fs.StringVar(&o.Master, "master", o.Master, "URL of the API server; overrides the kubeconfig's")
		fs.StringVar(&o.ContentType, "kube-api-content-type", o.ContentType, "Content type of requests")
		fs.Float32Var(&o.QPS, "kube-api-qps", o.QPS, "Requests a second on average; negative is unlimited")
		fs.Int32Var(&o.Burst, "kube-api-burst", o.Burst, "Requests at once beyond the average")
	})
}

// Validate returns every fault, naming flags.
func (o *Options) Validate() []error {
	var errs []error
	if o.QPS > 0 && o.Burst <= 0 {
		errs = append(errs, errors.New("--kube-api-burst: must be positive"))
	}
	return errs
}

// Config returns the client configuration of a component ("scheduler").
func Config(o Options, name string) (*rest.Config, error) {
	config, err := load(o)
	if err != nil {
		return nil, fmt.Errorf("configure API client: %w", err)
	}
	Prepare(config, o, name)
	return config, nil
}

func load(o Options) (*rest.Config, error) {
	if o.Kubeconfig == "" && o.Master == "" {
		return rest.InClusterConfig()
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig}
	overrides := &clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: o.Master}}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
}

// Prepare sets content type, limits and user agent of a configuration that
// was made elsewhere.
func Prepare(config *rest.Config, o Options, name string) {
	config.ContentType = o.ContentType
	if o.ContentType != "" && o.ContentType != JSON {
		config.AcceptContentTypes = o.ContentType + "," + JSON
	}
	config.QPS, config.Burst = o.QPS, int(o.Burst)
	config.UserAgent = component.UserAgent(name)
}

// New returns typed clients; all share one connection pool and rate limit.
func New(config *rest.Config) (*kubernetes.Clientset, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make API client: %w", err)
	}
	return client, nil
}

// Unlimited returns New of a copy of config without rate limit and with its
// own timeout, for leases: a renewal must not queue behind other work.
func Unlimited(config *rest.Config, timeout time.Duration) (*kubernetes.Clientset, error) {
	own := rest.CopyConfig(config)
	own.QPS, own.RateLimiter, own.Timeout = -1, nil, timeout
	return New(own)
}

// Informers returns a factory whose stores hold objects without managed
// fields. Further options may set a namespace, selectors or another transform
// (which then must strip by itself).
func Informers(client kubernetes.Interface, options ...informers.SharedInformerOption) informers.SharedInformerFactory {
	options = append([]informers.SharedInformerOption{informers.WithTransform(StripManagedFields)}, options...)
	return informers.NewSharedInformerFactoryWithOptions(client, 0, options...)
}

// MetadataInformers returns a factory for objects of any kind, metadata only.
func MetadataInformers(config *rest.Config) (metadatainformer.SharedInformerFactory, metadata.Interface, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make metadata client: %w", err)
	}
	return metadatainformer.NewSharedInformerFactoryWithOptions(client, 0, metadatainformer.WithTransform(StripManagedFields)), client, nil
}

// StripManagedFields is an informer transform: nobody who reads from a store
// looks at managed fields, and they are often half of an object.
func StripManagedFields(obj any) (any, error) {
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
	}
	return obj, nil
}
