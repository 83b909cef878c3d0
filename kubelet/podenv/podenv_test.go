package podenv_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/podenv"
)

// cluster is a fixed set of objects.
type cluster struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
	services   []*corev1.Service
}

func (c *cluster) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	data, ok := c.configMaps[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return &corev1.ConfigMap{Data: data}, nil
}

func (c *cluster) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	data, ok := c.secrets[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return &corev1.Secret{Data: data}, nil
}

func (c *cluster) List(namespace string) ([]*corev1.Service, error) {
	var out []*corev1.Service
	for _, s := range c.services {
		if s.Namespace == namespace {
			out = append(out, s)
		}
	}
	return out, nil
}

func service(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

var facts = podenv.Facts{IPs: []string{"10.1.0.5", "fd00::5"}, HostIPs: []string{"192.0.2.7"}, Hostname: "web"}

func builder(t *testing.T, c *cluster, resolv string) *podenv.Builder {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolv), 0o600); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("192.0.2.7 node\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := podenv.New(podenv.Config{
		Objects: c, Services: c, NodeName: "node-a", Hostname: "node-a.example", HostsFile: hosts,
		ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", ResolvConf: path,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u", Labels: map[string]string{"tier": "front"}},
		Spec:       corev1.PodSpec{NodeName: "node-a", ServiceAccountName: "runner", DNSPolicy: corev1.DNSClusterFirst},
	}
}

func TestEnv(t *testing.T) {
	c := &cluster{
		configMaps: map[string]map[string]string{"conf": {"COLOR": "red", "bad=name": "x", "dotted.name": "ok"}},
		secrets:    map[string]map[string][]byte{"pass": {"word": []byte("hush")}},
		services: []*corev1.Service{
			service("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}),
			service("shop", "my-db", "10.96.0.7", corev1.ServicePort{Port: 5432}),
			service("shop", "headless", corev1.ClusterIPNone, corev1.ServicePort{Port: 1}),
		},
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	container := &corev1.Container{
		Name: "c",
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: ptr.To(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "GREETING", Value: "hello $(P_COLOR) $(MY_DB_SERVICE_HOST) $(NOBODY) $$(P_COLOR) $x $("},
			{Name: "AGAIN", Value: "<$(GREETING)>"},
			{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "pass"}, Key: "word"}}},
			{Name: "MAYBE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "zzz", Optional: ptr.To(true)}}},
			{Name: "POD_IP", ValueFrom: field("status.podIP")},
			{Name: "POD_IPS", ValueFrom: field("status.podIPs")},
			{Name: "HOST_IP", ValueFrom: field("status.hostIP")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "TIER", ValueFrom: field("metadata.labels['tier']")},
			{Name: "MY_DB_PORT", Value: "mine"},
		},
	}
	b := builder(t, c, "")
	got, err := b.Env(t.Context(), pod(), container, facts)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"P_COLOR=red", "P_dotted.name=ok",
		"GREETING=hello red 10.96.0.7 $(NOBODY) $(P_COLOR) $x $(",
		"AGAIN=<hello red 10.96.0.7 $(NOBODY) $(P_COLOR) $x $(>",
		"PASSWORD=hush", "POD_IP=10.1.0.5", "POD_IPS=10.1.0.5,fd00::5", "HOST_IP=192.0.2.7",
		"NODE=node-a", "SA=runner", "TIER=front", "MY_DB_PORT=mine",
		"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443",
		"KUBERNETES_PORT=tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP_PROTO=tcp", "KUBERNETES_PORT_443_TCP_PORT=443", "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
		"MY_DB_SERVICE_HOST=10.96.0.7", "MY_DB_SERVICE_PORT=5432",
		"MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432", "MY_DB_PORT_5432_TCP_PROTO=tcp",
		"MY_DB_PORT_5432_TCP_PORT=5432", "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	without := pod()
	without.Spec.EnableServiceLinks = ptr.To(false)
	got, err = b.Env(t.Context(), without, &corev1.Container{}, facts)
	if err != nil || !slices.Contains(got, "KUBERNETES_SERVICE_HOST=10.96.0.1") || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "MY_DB") }) {
		t.Errorf("without links: %v, %v", got, err)
	}
}

func TestEnvErrors(t *testing.T) {
	b := builder(t, &cluster{configMaps: map[string]map[string]string{"conf": {}}}, "")
	for want, source := range map[string]*corev1.EnvVarSource{
		"couldn't find key k in ConfigMap shop/conf": {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "k"}},
		`secrets "s" not found`:                      {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}},
		"container other not found":                  {ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "other", Resource: "limits.cpu"}},
		`unsupported field path "spec.x"`:            {FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}},
	} {
		_, err := b.Env(t.Context(), pod(), &corev1.Container{Env: []corev1.EnvVar{{Name: "E", ValueFrom: source}}}, facts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestHostname(t *testing.T) {
	b := builder(t, &cluster{}, "")
	for _, test := range []struct {
		name, want string
		change     func(*corev1.Pod)
	}{
		{"pod's name", "web", func(*corev1.Pod) {}},
		{"long name", strings.Repeat("a", 62), func(p *corev1.Pod) { p.Name = strings.Repeat("a", 62) + "-b" }},
		{"spec.hostname", "busybox-1", func(p *corev1.Pod) { p.Spec.Hostname = "busybox-1" }},
		{"FQDN", "web.sub.shop.svc.cluster.local", func(p *corev1.Pod) {
			p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = "sub", ptr.To(true)
		}},
		{"override", "my.own", func(p *corev1.Pod) { p.Spec.HostnameOverride = ptr.To("my.own") }},
		{"host network", "node-a.example", func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
	} {
		p := pod()
		test.change(p)
		if got, err := b.Hostname(p); err != nil || got != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	p := pod()
	p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = strings.Repeat("s", 60), ptr.To(true)
	if _, err := b.Hostname(p); err == nil {
		t.Error("a host name longer than 64 was accepted")
	}
}

func TestFiles(t *testing.T) {
	const node = "# comment\nnameserver 192.0.2.53\nsearch corp.example. .\noptions timeout:1\n"
	for _, test := range []struct {
		name, resolv, hosts string
		change              func(*corev1.Pod)
	}{
		{"cluster first", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
			"10.1.0.5\tweb\nfd00::5\tweb\n", func(*corev1.Pod) {}},
		{"default", "search corp.example\nnameserver 192.0.2.53\noptions timeout:1\n",
			"10.1.0.5\tweb\n", func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSDefault }},
		{"none with config", "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
			"10.1.0.5\tweb\n", func(p *corev1.Pod) {
				p.Spec.DNSPolicy = corev1.DNSNone
				p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"a.b"},
					Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}}}
			}},
		{"config over cluster first", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example more\nnameserver 10.96.0.10\noptions ndots:1\n",
			"10.1.0.5\tweb.sub.shop.svc.cluster.local\tweb\n", func(p *corev1.Pod) {
				p.Spec.Subdomain = "sub"
				p.Spec.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"more"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("1")}}}
			}},
		{"host network", "search corp.example\nnameserver 192.0.2.53\noptions timeout:1\n",
			"(host network).\n192.0.2.7 node\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n", func(p *corev1.Pod) {
				p.Spec.HostNetwork = true
				p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := pod()
			test.change(p)
			dir := t.TempDir()
			b := builder(t, &cluster{}, node)
			mounts, err := b.Files(t.Context(), p, &corev1.Container{}, dir, facts)
			if err != nil {
				t.Fatal(err)
			}
			content := map[string]string{}
			for _, m := range mounts {
				data, err := os.ReadFile(m.Source)
				if err != nil {
					t.Fatal(err)
				}
				content[m.Target] = string(data)
			}
			if got := content["/etc/resolv.conf"]; got != test.resolv {
				t.Errorf("resolv.conf:\n%s\nwant\n%s", got, test.resolv)
			}
			if got := content["/etc/hosts"]; !strings.Contains(got, test.hosts) || !strings.HasPrefix(got, "# Kubernetes-managed hosts file") {
				t.Errorf("hosts:\n%s\nwant\n%s", got, test.hosts)
			}
			if content["/etc/hostname"] != "web\n" {
				t.Errorf("hostname: %q", content["/etc/hostname"])
			}
		})
	}
}
