// Package podenv makes what a container finds around it besides its volumes:
// environment variables, host name, /etc/hosts, /etc/resolv.conf and
// /etc/hostname. The kubelet's lifecycle calls Builder; it reads ConfigMaps
// and Secrets through kubelet/volume/objects and Services through its own
// Services watch. Goroutines: the informer's, while Services.Run runs.
//
// On disk, in the Pod's directory (the definition of the layout):
//
//	etc-hosts, etc-resolv.conf, etc-hostname
package podenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Objects reads the objects that environments name (kubelet/volume/objects).
// A missing one is an API NotFound error.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// ServiceLister lists Services of a namespace; an error while it has not read
// them once.
type ServiceLister interface {
	List(namespace string) ([]*corev1.Service, error)
}

// Config is what a Builder needs.
type Config struct {
	// Objects is required.
	Objects Objects
	// Services may be nil: no service variables.
	Services ServiceLister
	// NodeName is the node's own.
	NodeName string
	// Hostname of the node, for host network Pods; "" asks the kernel.
	Hostname string
	// ClusterDNS are the addresses of the cluster's DNS; ClusterDomain its
	// suffix ("cluster.local").
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the node's resolver configuration; "" is
	// /etc/resolv.conf.
	ResolvConf string
	// HostsFile is the node's; "" is /etc/hosts.
	HostsFile string
	// Allocatable is what the node has to give, for limits that are not set;
	// nil is nothing.
	Allocatable func() corev1.ResourceList
}

// Facts are known about a Pod once it has a network.
type Facts struct {
	IPs, HostIPs []string // primary first
	Hostname     string
}

// Builder makes environments. It is safe for concurrent use.
type Builder struct {
	config Config
}

// New returns a Builder.
func New(config Config) (*Builder, error) {
	if config.Objects == nil {
		return nil, errors.New("podenv: Objects is required")
	}
	if config.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("ask for host name: %w", err)
		}
		config.Hostname = name
	}
	if config.ResolvConf == "" {
		config.ResolvConf = "/etc/resolv.conf"
	}
	if config.HostsFile == "" {
		config.HostsFile = "/etc/hosts"
	}
	if config.Allocatable == nil {
		config.Allocatable = func() corev1.ResourceList { return nil }
	}
	return &Builder{config: config}, nil
}

// Files writes hosts, resolv.conf and hostname for the Pod into podDir and
// returns their mounts for the container. They are only written when they
// differ, and in place: running containers have them mounted.
func (b *Builder) Files(_ context.Context, pod *corev1.Pod, _ *corev1.Container, podDir string, facts Facts) ([]container.Mount, error) {
	hosts, err := b.hosts(pod, facts)
	if err != nil {
		return nil, err
	}
	resolv, err := b.resolvConf(pod)
	if err != nil {
		return nil, err
	}
	var mounts []container.Mount
	for _, f := range []struct {
		name, target string
		content      []byte
	}{
		{"etc-hosts", "/etc/hosts", hosts},
		{"etc-resolv.conf", "/etc/resolv.conf", resolv},
		{"etc-hostname", "/etc/hostname", []byte(facts.Hostname + "\n")},
	} {
		path := filepath.Join(podDir, f.name)
		if err := writeIfChanged(path, f.content); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.target, err)
		}
		mounts = append(mounts, container.Mount{Source: path, Target: f.target})
	}
	return mounts, nil
}

func writeIfChanged(path string, content []byte) error {
	// The containers may have written to it; what they wrote stays until the
	// content is due to change.
	now, err := os.ReadFile(path + ".made")
	if err == nil && bytes.Equal(now, content) {
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o644); err != nil { // past the umask
		return err
	}
	return os.WriteFile(path+".made", content, 0o600)
}

// maxLabelBytes is the longest host name label (RFC 1035), maxHostnameBytes
// the longest host name Linux has.
const (
	maxLabelBytes    = 63
	maxHostnameBytes = 64
)

// Hostname is the Pod's host name; with setHostnameAsFQDN its full name.
func (b *Builder) Hostname(pod *corev1.Pod) (string, error) {
	if pod.Spec.HostNetwork {
		return b.config.Hostname, nil
	}
	if override := pod.Spec.HostnameOverride; override != nil && *override != "" {
		if len(*override) > maxHostnameBytes {
			return "", fmt.Errorf("hostnameOverride %q is longer than %d characters", *override, maxHostnameBytes)
		}
		return *override, nil
	}
	name := hostname(pod)
	if domain := b.domain(pod); domain != "" && pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN {
		name = name + "." + domain
		if len(name) > maxHostnameBytes {
			return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
				name, maxHostnameBytes, len(name))
		}
	}
	return name, nil
}

// hostname is spec.hostname, or the Pod's name cut to a label.
func hostname(pod *corev1.Pod) string {
	if pod.Spec.Hostname != "" {
		return pod.Spec.Hostname
	}
	name := pod.Name
	if len(name) > maxLabelBytes {
		name = strings.TrimRight(name[:maxLabelBytes], "-.")
	}
	return name
}

// domain is what follows the host name in the Pod's full name; "" without a
// subdomain.
func (b *Builder) domain(pod *corev1.Pod) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostNetwork {
		return ""
	}
	return strings.TrimSuffix(fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, b.config.ClusterDomain), ".")
}

// hosts is the content of /etc/hosts.
func (b *Builder) hosts(pod *corev1.Pod, facts Facts) ([]byte, error) {
	var out bytes.Buffer
	if pod.Spec.HostNetwork {
		node, err := os.ReadFile(b.config.HostsFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the node's hosts file: %w", err)
		}
		out.WriteString("# Kubernetes-managed hosts file (host network).\n")
		out.Write(node)
	} else {
		out.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		short, _, _ := strings.Cut(facts.Hostname, ".")
		domain := b.domain(pod)
		for _, ip := range facts.IPs {
			if domain != "" {
				fmt.Fprintf(&out, "%s\t%s.%s\t%s\n", ip, short, domain, short)
			} else {
				fmt.Fprintf(&out, "%s\t%s\n", ip, facts.Hostname)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		out.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&out, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return out.Bytes(), nil
}
