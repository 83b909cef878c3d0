package podenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Limits of resolvers (resolv.conf(5); the API's validation has the same).
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchBytes = 2048
)

// resolver is the content of a resolv.conf.
type resolver struct {
	nameservers, searches, options []string
}

// resolvConf is the Pod's resolv.conf, by dnsPolicy and dnsConfig.
func (b *Builder) resolvConf(pod *corev1.Pod) ([]byte, error) {
	r, err := b.resolver(pod)
	if err != nil {
		return nil, err
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.nameservers = appendNew(r.nameservers, c.Nameservers)
		r.searches = appendNew(r.searches, c.Searches)
		r.options = mergeOptions(r.options, c.Options)
	}
	return r.bytes(), nil
}

func (b *Builder) resolver(pod *corev1.Pod) (resolver, error) {
	policy := pod.Spec.DNSPolicy
	switch {
	case policy == corev1.DNSNone:
		return resolver{}, nil
	case policy == corev1.DNSDefault,
		policy != corev1.DNSClusterFirstWithHostNet && pod.Spec.HostNetwork,
		len(b.config.ClusterDNS) == 0:
		return b.nodeResolver()
	}
	node, err := b.nodeResolver()
	if err != nil {
		return resolver{}, err
	}
	r := resolver{nameservers: slices.Clone(b.config.ClusterDNS)}
	if domain := b.config.ClusterDomain; domain != "" {
		r.searches = []string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}
	}
	r.searches = appendNew(r.searches, node.searches)
	// Short names with up to four dots are tried with the search list first:
	// "service.namespace.svc" has to work (KEP-1024 has the reasons).
	r.options = []string{"ndots:5"}
	return r, nil
}

// nodeResolver reads the node's configuration; a node without one has
// resolvers of its own and nothing to hand on.
func (b *Builder) nodeResolver() (resolver, error) {
	data, err := os.ReadFile(b.config.ResolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return resolver{}, nil
	}
	if err != nil {
		return resolver{}, fmt.Errorf("read the node's resolver configuration: %w", err)
	}
	var r resolver
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.nameservers = append(r.nameservers, fields[1])
		case "search", "domain": // the last one counts
			r.searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					r.searches = append(r.searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			r.options = append(r.options, fields[1:]...)
		}
	}
	return r, nil
}

func appendNew(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// mergeOptions replaces options of the same name.
func mergeOptions(list []string, more []corev1.PodDNSConfigOption) []string {
	for _, o := range more {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(list, func(s string) bool {
			name, _, _ := strings.Cut(s, ":")
			return name == o.Name
		})
		if i >= 0 {
			list[i] = text
		} else {
			list = append(list, text)
		}
	}
	return list
}

// bytes renders the configuration, cut to what resolvers take.
func (r *resolver) bytes() []byte {
	var out bytes.Buffer
	searches := r.searches[:min(len(r.searches), maxSearches)]
	for len(strings.Join(searches, " ")) > maxSearchBytes {
		searches = searches[:len(searches)-1]
	}
	if len(searches) > 0 {
		out.WriteString("search " + strings.Join(searches, " ") + "\n")
	}
	for _, ns := range r.nameservers[:min(len(r.nameservers), maxNameservers)] {
		out.WriteString("nameserver " + ns + "\n")
	}
	if len(r.options) > 0 {
		out.WriteString("options " + strings.Join(r.options, " ") + "\n")
	}
	return out.Bytes()
}
