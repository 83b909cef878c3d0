package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/ctl/progress"
)

// pollEvery is how often `up` looks whether a step is done.
const pollEvery = 20 * time.Millisecond

// Up makes the cluster of spec below l, or continues it.
type Up struct {
	Layout Layout
	Spec   Spec
	// Bin is the directory of the components' binaries.
	Bin string
	// Timeout bounds each step.
	Timeout time.Duration
	// Mirrors is a directory of registry mirrors (certs.d/<host>/hosts.toml)
	// given to every kubelet; "" for none.
	Mirrors  string
	Progress *progress.Printer

	exited map[string]<-chan error
	client kubernetes.Interface
}

// Run makes what is missing, in order, and returns at the first step that
// fails. Its error says which, why, and where the log is.
func (u *Up) Run(ctx context.Context) error {
	u.exited = map[string]<-chan error{}
	steps := []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"prepare this machine", u.prepare},
		{"start apiserver", u.startAPIServer},
		{"start controller-manager", u.startControllers},
		{"start scheduler", u.startScheduler},
		{"start nodes", u.startNodes},
		{"nodes ready", u.nodesReady},
		{"services and DNS", u.startProxies},
	}
	for _, step := range steps {
		err := u.Progress.Step(step.name, func() (string, error) {
			ctx, cancel := context.WithTimeout(ctx, u.Timeout)
			defer cancel()
			return step.do(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Client is a client with the administrator's rights; nil before Run.
func (u *Up) Client() kubernetes.Interface { return u.client }

func (u *Up) prepare(context.Context) (string, error) {
	if err := checkHost(); err != nil {
		return "", err
	}
	if err := checkRanges(u.Spec); err != nil {
		return "", err
	}
	for _, name := range []string{"apiserver", "controller-manager", "scheduler", "kubelet", "kubelet-shim", "proxy"} {
		if _, err := os.Stat(filepath.Join(u.Bin, name)); err != nil {
			return "", fmt.Errorf("no binary %s in %s; build it with `make build`, or name the directory with --bin", name, u.Bin)
		}
	}
	for _, dir := range []string{"log", "run", "nodes"} {
		if err := os.MkdirAll(u.Layout.path(dir), 0o755); err != nil {
			return "", err
		}
	}
	if err := writeJSON(u.Layout.path("cluster.json"), u.Spec); err != nil {
		return "", err
	}
	if err := prepareHost(u.Spec); err != nil {
		return "", err
	}
	if err := ensureSwitch(u.Spec); err != nil {
		return "", err
	}
	for i := 1; i <= u.Spec.Nodes; i++ {
		if err := ensureNode(u.Spec, i); err != nil {
			return "", fmt.Errorf("node %s: %w", NodeName(i), err)
		}
	}
	return "network " + u.Spec.NodeCIDR.String(), u.Spec.routeVia(u.Spec.ServiceCIDR, u.Spec.NodeIP(1))
}

func (u *Up) start(p process) error {
	exited, err := start(u.Layout, p)
	if err == nil && exited != nil {
		u.exited[p.name] = exited
	}
	return err
}

// await polls ready until it is true. A process of ours that ends meanwhile
// ends the wait with its last words.
func (u *Up) await(ctx context.Context, what string, ready func(context.Context) (bool, error)) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
		if err := u.dead(); err != nil {
			return false, err
		}
		ok, err := ready(ctx)
		if ctx.Err() == nil { // else it says only that we stopped asking
			last = err
		}
		return ok && err == nil, nil
	})
	if wait.Interrupted(err) {
		if last == nil {
			last = errors.New("still waiting")
		}
		return fmt.Errorf("%s: gave up after %s: %w (logs: %s)", what, u.Timeout, last, u.Layout.path("log"))
	}
	return err
}

func (u *Up) dead() error {
	for name, exited := range u.exited {
		select {
		case err := <-exited:
			delete(u.exited, name)
			log := u.Layout.Log(name)
			return fmt.Errorf("%s ended (%v); the end of %s:\n%s", name, err, log, lastLines(log, 15))
		default:
		}
	}
	return nil
}

func (u *Up) startAPIServer(ctx context.Context) (string, error) {
	s := u.Spec
	err := u.start(process{name: "apiserver", args: []string{
		filepath.Join(u.Bin, "apiserver"),
		"--advertise-address=" + s.HostIP().String(),
		"--bind-address=" + s.HostIP().String(),
		fmt.Sprintf("--secure-port=%d", s.Port),
		"--cert-dir=" + u.Layout.PKI(),
		"--kubeconfig-dir=" + u.Layout.Dir,
		"--etcd-data-dir=" + u.Layout.path("etcd"),
		"--service-cluster-ip-range=" + s.ServiceCIDR.String(),
	}})
	if err != nil {
		return "", err
	}
	err = u.await(ctx, "apiserver ready", func(ctx context.Context) (bool, error) {
		if u.client == nil {
			config, err := clientcmd.BuildConfigFromFlags("", u.Layout.AdminKubeconfig())
			if err != nil {
				return false, err
			}
			if u.client, err = newClient(config); err != nil {
				return false, err
			}
		}
		err := u.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return err == nil, err
	})
	return s.Server(), err
}

func newClient(config *rest.Config) (kubernetes.Interface, error) {
	config.QPS, config.Burst = 200, 400
	return kubernetes.NewForConfig(config)
}

func (u *Up) startControllers(context.Context) (string, error) {
	pki := u.Layout.PKI()
	args := []string{
		filepath.Join(u.Bin, "controller-manager"),
		"--kubeconfig=" + u.Layout.path("controller-manager.conf"),
		"--bind-address=" + u.Spec.HostIP().String(),
		"--cluster-cidr=" + u.Spec.PodCIDR.String(),
		"--service-cluster-ip-range=" + u.Spec.ServiceCIDR.String(),
		"--cluster-signing-cert-file=" + filepath.Join(pki, "ca.crt"),
		"--cluster-signing-key-file=" + filepath.Join(pki, "ca.key"),
		"--root-ca-file=" + filepath.Join(pki, "ca.crt"),
		"--service-account-private-key-file=" + filepath.Join(pki, "sa.key"),
	}
	return "", u.start(process{name: "controller-manager", args: append(args, u.Spec.ControllerManagerArgs...)})
}

func (u *Up) startScheduler(context.Context) (string, error) {
	return "", u.start(process{name: "scheduler", args: []string{
		filepath.Join(u.Bin, "scheduler"),
		"--kubeconfig=" + u.Layout.path("scheduler.conf"),
		"--bind-address=" + u.Spec.HostIP().String(),
	}})
}

func (u *Up) startNodes(ctx context.Context) (string, error) {
	for i := 1; i <= u.Spec.Nodes; i++ {
		if err := u.startKubelet(ctx, i); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (u *Up) startKubelet(ctx context.Context, i int) error {
	name := NodeName(i)
	dir := u.Layout.Node(name)
	for _, sub := range []string{"kubelet", "pods"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	bootstrap := filepath.Join(dir, "bootstrap.conf")
	if _, err := os.Stat(filepath.Join(dir, "kubelet.conf")); err != nil {
		token, err := CreateToken(ctx, u.client, time.Hour, "join of "+name)
		if err != nil {
			return err
		}
		if err := writeBootstrap(u.Layout.AdminKubeconfig(), bootstrap, token); err != nil {
			return err
		}
	}
	resolv, err := resolvConf(u.Layout)
	if err != nil {
		return err
	}
	args := []string{
		filepath.Join(u.Bin, "kubelet"),
		"--kubeconfig=" + filepath.Join(dir, "kubelet.conf"),
		"--bootstrap-kubeconfig=" + bootstrap,
		"--root-dir=" + filepath.Join(dir, "kubelet"),
		"--pod-log-dir=" + filepath.Join(dir, "pods"),
		"--hostname-override=" + name,
		"--node-ip=" + u.Spec.NodeIP(i).String(),
		"--cluster-dns=" + u.Spec.DNSIP().String(),
		"--cluster-domain=" + u.Spec.Domain,
		"--cgroup-root=/" + u.Spec.cgroup() + "/" + name,
		"--resolv-conf=" + resolv,
	}
	if u.Mirrors != "" {
		args = append(args, "--registry-config-dir="+u.Mirrors)
	}
	return u.start(process{name: name + "-kubelet", namespace: u.Spec.nodeNamespace(name), args: args})
}

// resolvConf is the file the nodes resolve outside names with. A resolver on
// loopback (systemd-resolved) is not reachable from a node's namespace; its
// upstream servers are in another file.
func resolvConf(l Layout) (string, error) {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		data, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(data), "nameserver 127.") && !strings.Contains(string(data), "nameserver ::1") {
			return path, nil
		}
	}
	path := l.path("resolv.conf")
	return path, writeFile(path, []byte("# this machine has no resolver that its nodes can reach\n"), 0o644)
}

// writeBootstrap makes a kubeconfig that joins with token, from the server and
// CA of the administrator's.
func writeBootstrap(admin, path, token string) error {
	config, err := clientcmd.LoadFromFile(admin)
	if err != nil {
		return fmt.Errorf("read %s: %w", admin, err)
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return fmt.Errorf("read %s: no current context", admin)
	}
	for name, user := range config.AuthInfos {
		if name != current.AuthInfo {
			delete(config.AuthInfos, name)
			continue
		}
		user.ClientCertificate, user.ClientKey = "", ""
		user.ClientCertificateData, user.ClientKeyData = nil, nil
		user.Token = token
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, data, 0o600)
}

func (u *Up) nodesReady(ctx context.Context) (string, error) {
	err := u.await(ctx, "nodes ready", func(ctx context.Context) (bool, error) {
		nodes, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for i := range nodes.Items {
			cidr, err := netip.ParsePrefix(nodes.Items[i].Spec.PodCIDR)
			if err != nil || !NodeReady(&nodes.Items[i]) {
				continue
			}
			if err := u.kubeletAnswers(ctx, nodes.Items[i].Name); err != nil {
				return false, err
			}
			if err := u.routeToPods(&nodes.Items[i], cidr); err != nil {
				return false, err
			}
			ready++
		}
		if ready < u.Spec.Nodes {
			return false, fmt.Errorf("%d of %d nodes are ready", ready, u.Spec.Nodes)
		}
		return true, nil
	})
	return fmt.Sprintf("%d nodes", u.Spec.Nodes), err
}

// kubeletAnswers is nil once the API server reaches the kubelet, so that logs,
// exec and images work: its serving certificate may come after the node is Ready.
func (u *Up) kubeletAnswers(ctx context.Context, node string) error {
	err := u.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", node, "proxy", "healthz").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("reach the kubelet of %s: %w", node, err)
	}
	return nil
}

// routeToPods lets the host (the API server's proxy, and people) reach pods.
func (u *Up) routeToPods(node *corev1.Node, cidr netip.Prefix) error {
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && u.Spec.NodeCIDR.Contains(addr) {
			return u.Spec.routeVia(cidr, addr)
		}
	}
	return nil
}

// NodeReady reports whether the node's Ready condition is true.
func NodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (u *Up) startProxies(ctx context.Context) (string, error) {
	for i := 1; i <= u.Spec.Nodes; i++ {
		name := NodeName(i)
		err := u.start(process{name: name + "-proxy", namespace: u.Spec.nodeNamespace(name), args: []string{
			filepath.Join(u.Bin, "proxy"),
			"--kubeconfig=" + u.Layout.path("proxy.conf"),
			"--hostname-override=" + name,
			"--cluster-cidr=" + u.Spec.PodCIDR.String(),
			"--service-cidr=" + u.Spec.ServiceCIDR.String(),
			"--proxy-mode=" + u.Spec.ProxyMode,
			"--cluster-dns=" + u.Spec.DNSIP().String(),
			"--cluster-domain=" + u.Spec.Domain,
		}})
		if err != nil {
			return "", err
		}
	}
	detail := fmt.Sprintf("%s at %s", u.Spec.Domain, u.Spec.DNSIP())
	return detail, u.await(ctx, "proxies ready", func(context.Context) (bool, error) {
		for i := 1; i <= u.Spec.Nodes; i++ {
			if err := proxyHealthy(u.Spec.NodeIP(i)); err != nil {
				return false, fmt.Errorf("%s-proxy: %w", NodeName(i), err)
			}
		}
		return true, nil
	})
}

// CreateToken makes a bootstrap token (API reference, "Authenticating with
// Bootstrap Tokens") that lets kubelets join for ttl, and returns it.
func CreateToken(ctx context.Context, c kubernetes.Interface, ttl time.Duration, description string) (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	random := make([]byte, 22)
	for i := range random {
		b := make([]byte, 1)
		for { // 252 is the largest multiple of 36 in a byte: no bias
			if _, err := rand.Read(b); err != nil {
				return "", err
			}
			if b[0] < 252 {
				break
			}
		}
		random[i] = alphabet[b[0]%36]
	}
	id, secret := string(random[:6]), string(random[6:])
	data := map[string]string{
		"token-id": id, "token-secret": secret, "description": description,
		"usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
	}
	if ttl > 0 {
		data["expiration"] = time.Now().Add(ttl).UTC().Format(time.RFC3339)
	}
	_, err := c.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: data,
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return CreateToken(ctx, c, ttl, description)
	}
	if err != nil {
		return "", fmt.Errorf("create bootstrap token: %w", err)
	}
	return id + "." + secret, nil
}
