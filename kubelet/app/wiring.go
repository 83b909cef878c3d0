package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/kubeclient"
	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/shimclient"
	"github.com/skeg-dev/skeg/kubelet/eviction"
	"github.com/skeg-dev/skeg/kubelet/image"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/measure"
	"github.com/skeg-dev/skeg/kubelet/network"
	"github.com/skeg-dev/skeg/kubelet/node"
	"github.com/skeg-dev/skeg/kubelet/podenv"
	"github.com/skeg-dev/skeg/kubelet/podsource"
	"github.com/skeg-dev/skeg/kubelet/podworker"
	"github.com/skeg-dev/skeg/kubelet/probe"
	"github.com/skeg-dev/skeg/kubelet/status"
	"github.com/skeg-dev/skeg/kubelet/volume"
	"github.com/skeg-dev/skeg/kubelet/volume/objects"
)

// kubelet is all parts, built and not yet running.
type kubelet struct {
	options *Options
	logger  *slog.Logger
	clock   clock.WithTicker

	config   *rest.Config
	client   kubernetes.Interface
	beat     kubernetes.Interface // for the lease: no rate limit
	recorder *recorder
	ips      []netip.Addr
	machine  *node.Machine
	logBytes int64

	tree     *cgroup.Tree
	shims    *shimclient.Client
	runtime  container.Runtime // the shims, measured
	measures *measure.Set
	images   *image.Store
	network  *network.Network
	objects  *objects.Store
	services *podenv.Services
	env      *podenv.Builder
	volumes  *volume.Volumes
	probes   *probe.Probes
	statuses *status.Manager
	eviction *eviction.Manager
	node     *node.Node
	pool     *podworker.Pool
	hooks    lifecycle.Parts
	chain    lifecycle.Chain
	sweeper  *sweeper
	mirrors  *podsource.Mirrors
	// serverCert is the certificate of the kubelet's API; nil without one.
	serverCert func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	sources    []component.Part
	serving    []component.Part
}

// build makes the parts in the order they need each other.
func (o *Options) build(ctx context.Context, measures *measure.Set, logger *slog.Logger) (*kubelet, error) {
	k := &kubelet{options: o, measures: measures, logger: logger, clock: clock.RealClock{}}
	var err error
	if k.logBytes, err = parseBytes(o.LogMaxSize); err != nil {
		return nil, fmt.Errorf("--container-log-max-size: %w", err)
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"API clients", k.buildClients},
		{"host", k.buildHost},
		{"network", k.buildNetwork},
		{"volumes", k.buildVolumes},
		{"node", k.buildNode},
		{"pods", k.buildPods},
		{"eviction", k.buildEviction},
		{"pod sources", k.buildSources},
		{"servers", k.buildServers},
	} {
		if err := step.do(ctx); err != nil {
			k.close()
			return nil, fmt.Errorf("build %s: %w", step.what, err)
		}
	}
	return k, nil
}

// close ends what was started by building.
func (k *kubelet) close() {
	if k.recorder != nil {
		k.recorder.close()
	}
	if k.shims != nil {
		if err := k.shims.Close(); err != nil {
			k.logger.Warn("closing runtime client", "error", err)
		}
	}
}

func (k *kubelet) buildClients(context.Context) (err error) {
	if k.config, err = kubeclient.Config(k.options.API, "kubelet"); err != nil {
		return err
	}
	if k.client, err = kubeclient.New(k.config); err != nil {
		return err
	}
	// A renewal that takes longer than a quarter of the lease is better tried anew.
	if k.beat, err = kubeclient.Unlimited(k.config, k.options.LeaseDuration/4); err != nil {
		return err
	}
	k.recorder = newRecorder(k.client, k.options.HostnameOverride)
	return nil
}

func (k *kubelet) buildHost(context.Context) (err error) {
	o := k.options
	if k.ips, err = nodeIPs(o.NodeIP, k.config.Host); err != nil {
		return err
	}
	if k.machine, err = node.ReadMachine(o.RootDir); err != nil {
		return err
	}
	if k.tree, err = cgroup.New(o.CgroupRoot); err != nil {
		return err
	}
	if err = k.tree.EnsureClasses(); err != nil {
		return err
	}
	if k.shims, err = shimclient.New(shimclient.Config{Root: o.RootDir, ShimPath: o.ShimPath, Cgroups: k.tree}); err != nil {
		return err
	}
	k.runtime = k.measures.Runtime(k.shims)
	return k.buildImages()
}

func (k *kubelet) buildNetwork(context.Context) error {
	o := k.options
	config := network.Config{
		StateDir: o.RootDir, NodeName: o.HostnameOverride, Client: k.client, Bridge: o.Bridge, MTU: o.MTU, Log: k.logger,
	}
	for _, cidr := range o.clusterCIDRs() {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return err
		}
		config.ClusterCIDRs = append(config.ClusterCIDRs, prefix)
	}
	if o.PodCIDR != "" {
		prefix, err := netip.ParsePrefix(o.PodCIDR)
		if err != nil {
			return err
		}
		config.PodCIDRs = []netip.Prefix{prefix}
	}
	var err error
	k.network, err = network.New(config)
	return err
}

func (k *kubelet) buildVolumes(context.Context) (err error) {
	o := k.options
	k.objects = objects.New(k.client)
	if k.services, err = podenv.NewServices(k.client); err != nil {
		return err
	}
	allocatable := func() corev1.ResourceList {
		self, err := k.node.Object()
		if err != nil {
			return nil
		}
		return self.Status.Allocatable
	}
	k.env, err = podenv.New(podenv.Config{
		Objects: k.objects, Services: k.services, NodeName: o.HostnameOverride, Hostname: o.HostnameOverride,
		ClusterDNS: o.ClusterDNS, ClusterDomain: o.ClusterDomain, ResolvConf: o.ResolvConf, Allocatable: allocatable,
	})
	if err != nil {
		return err
	}
	k.volumes, err = volume.New(volume.Config{
		Root: o.RootDir, Client: k.client, Objects: k.objects, Allocatable: allocatable, Log: k.logger,
		Env: func(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, error) {
			return k.env.Env(ctx, pod, c, podFacts(pod, k.hostIPs(), k.network.Lookup))
		},
	})
	return err
}

func (k *kubelet) hostIPs() []string {
	out := make([]string, len(k.ips))
	for i, ip := range k.ips {
		out[i] = ip.String()
	}
	return out
}

func (k *kubelet) buildNode(context.Context) error {
	o := k.options
	reserved, err := o.reserved(k.machine.Capacity())
	if err != nil {
		return err
	}
	k.node, err = node.New(node.Config{
		Name: o.HostnameOverride, Client: k.client, Machine: k.machine, Labels: o.NodeLabels, Taints: o.taints(),
		Register: o.RegisterNode, IPs: k.ips, MaxPods: o.MaxPods, Reserved: reserved, ServerPort: o.Port,
		Pressure: func() node.Pressure {
			return node.Pressure{
				Memory: k.eviction.Pressure(corev1.NodeMemoryPressure),
				Disk:   k.eviction.Pressure(corev1.NodeDiskPressure),
				PIDs:   k.eviction.Pressure(corev1.NodePIDPressure),
			}
		},
		NotReady: k.notReady, Images: k.nodeImages,
		Every: o.StatusEvery, Report: o.StatusReport, Clock: k.clock, Logger: k.logger,
	})
	return err
}

// notReady is why the node cannot run Pods.
func (k *kubelet) notReady() error {
	var errs []error
	if err := k.pool.Ready(); err != nil {
		errs = append(errs, fmt.Errorf("container runtime is down: %w", err))
	}
	if err := k.network.Ready(); err != nil {
		errs = append(errs, fmt.Errorf("container runtime network not ready: %w", err))
	}
	return errors.Join(errs...)
}

func (k *kubelet) buildPods(ctx context.Context) error {
	o := k.options
	checkpoints, err := checkpoint.New(filepath.Join(o.RootDir, "checkpoints"))
	if err != nil {
		return err
	}
	bootID, err := node.BootID()
	if err != nil {
		return err
	}
	k.statuses = &status.Manager{Client: k.client, Logger: k.logger, Mirror: func(static *corev1.Pod) *corev1.Pod {
		if k.mirrors == nil {
			return nil
		}
		return k.mirrors.Of(static)
	}}
	k.probes, err = probe.New(probe.Config{
		Runtime: k.runtime, Changed: func(uid types.UID) { k.pool.Wake(uid) }, Event: k.recorder.Event, Log: k.logger,
	})
	if err != nil {
		return err
	}
	if err := k.buildHooks(ctx); err != nil {
		return err
	}
	k.pool = podworker.NewPool(podworker.Config{
		Hooks: k.chain, Containers: k.hooks.Containers, Dirs: k.hooks.Dirs, Runtime: k.runtime, Probes: k.hooks.Probing.Probes,
		Status: k.measures.Statuses(k.statuses), Looked: k.measures.Looked, Checkpoints: checkpoints, Recorder: k.recorder, Clock: k.clock, Logger: k.logger,
		Resizer: lifecycle.NewResizer(k.hooks), Restore: k.hooks.Admit.Restore, BootID: bootID, HostIPs: k.hostIPs, MaxCrashBackOff: o.MaxCrashBackOff,
		ResetSandbox: func(ctx context.Context, uid types.UID) error {
			return errors.Join(k.hooks.Containers.Cleanup(ctx, uid), k.hooks.Networking.Cleanup(ctx, uid))
		},
	})
	return nil
}

// buildHooks makes the hooks of every Pod's life.
func (k *kubelet) buildHooks(context.Context) error {
	o := k.options
	env := environment{k.env}
	keys, err := nodeKeys(o.RootDir)
	if err != nil {
		return err
	}
	slots := o.MaxParallelPulls
	if o.SerializePulls {
		slots = 1
	}
	store := k.measures.Images(imageStore{k.images})
	puller := &lifecycle.Puller{
		Images: store, Recorder: k.recorder, Clock: k.clock, Secret: k.objects.Secret,
		NodeKeys: keys, Slots: make(chan struct{}, slots),
	}
	k.hooks = lifecycle.Parts{
		Admit:      &lifecycle.Admit{Node: k.node.Object},
		Dirs:       &lifecycle.Dirs{Root: o.RootDir, LogRoot: o.LogDir},
		Cgroup:     &lifecycle.Cgroup{Cgroups: k.measures.Cgroups(cgroups{k.tree}), PidsLimit: max(o.PodPidsLimit, 0), NoQuota: !o.CPUQuota},
		Networking: &lifecycle.Networking{Network: podNetwork{k.network}, HostIPs: k.hostIPs, Environment: env},
		Mounting:   &lifecycle.Mounting{Volumes: k.measures.Volumes(k.volumes)},
		Images:     puller,
		Containers: &lifecycle.Containers{
			Runtime: k.runtime, Images: store, Puller: puller, Volumes: k.volumes, Environment: env, Recorder: k.recorder,
			Clock: k.clock, SeccompRoot: filepath.Join(o.RootDir, "seccomp"), SeccompDefault: o.SeccompDefault,
			NoQuota: !o.CPUQuota, NodeMemoryBytes: k.machine.MemoryBytes(),
		},
		Probing: &lifecycle.Probing{Probes: prober{k.probes}},
	}
	k.chain = lifecycle.Registry(k.hooks)
	return nil
}

// nodeKeys are the node's own registry credentials: config.json in the
// kubelet's directory, as upstream reads it.
func nodeKeys(root string) (*lifecycle.Keyring, error) {
	data, err := os.ReadFile(filepath.Join(root, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys := &lifecycle.Keyring{}
	return keys, keys.AddConfigJSON(data)
}

func (k *kubelet) buildSources(context.Context) error {
	o := k.options
	k.sweeper = &sweeper{Pool: k.pool, hooks: k.chain, tree: k.tree, root: o.RootDir, logger: k.logger, synced: make(chan struct{})}
	sources := 1
	if o.ManifestPath != "" {
		sources = 2
	}
	barrier := podsource.NewBarrier(k.sweeper, sources)
	k.mirrors = podsource.NewMirrors(podsource.MirrorConfig{
		Client: k.client, Node: k.node.Object, Clock: k.clock, Logger: k.logger, Appeared: k.statuses.Poke,
	})
	api, err := podsource.NewAPIServer(k.client, o.HostnameOverride, k.sweeper, k.mirrors, barrier)
	if err != nil {
		return err
	}
	if o.ManifestPath != "" {
		static := &podsource.Static{
			Path: o.ManifestPath, NodeName: o.HostnameOverride, Sink: k.sweeper, Mirrors: k.mirrors, Barrier: barrier,
			Every: o.ManifestEvery, Clock: k.clock, Logger: k.logger,
		}
		k.sources = append(k.sources, component.Part{Name: "static pods", Runnable: static})
	}
	k.sources = append(k.sources,
		component.Part{Name: "mirror pods", Runnable: k.mirrors},
		component.Part{Name: "node", Runnable: k.node},
		component.Part{Name: "network settled", Runnable: &settled{ready: k.network.Ready, clock: k.clock}},
		component.Part{Name: "api pods", Runnable: api},
		component.Part{Name: "leftovers", Runnable: component.RunFunc(k.sweeper.Run)},
	)
	return nil
}

// settled holds back the parts after it until something is ready, but not for
// long: what is merely slow at start is waited for, what is broken is not.
type settled struct {
	ready   func() error
	clock   clock.Clock
	expired atomic.Bool
}

// settlePatience is enough for a Node that has its Pod range.
const settlePatience = 3 * time.Second

// Run notes the end of patience.
func (s *settled) Run(ctx context.Context) error {
	timer := s.clock.NewTimer(settlePatience)
	defer timer.Stop()
	select {
	case <-timer.C():
		s.expired.Store(true)
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil
}

// Ready is nil when it is ready or patience has ended.
func (s *settled) Ready() error {
	if s.expired.Load() {
		return nil
	}
	return s.ready()
}

// parts are all that runs, in start order. Those that wait for other
// components of the cluster are started without waiting for them, since some
// of those may be Pods of this node.
func (k *kubelet) parts() []component.Part {
	lease := &node.Lease{
		Client: k.beat, Name: k.options.HostnameOverride, Duration: k.options.LeaseDuration, Owner: k.node.Object,
		Clock: k.clock, Logger: k.logger,
	}
	rotation := &lifecycle.LogRotation{
		Runtime: k.runtime, Reopener: k.shims, MaxBytes: k.logBytes, MaxFiles: k.options.LogMaxFiles,
		Clock: k.clock, Logger: k.logger,
	}
	parts := []component.Part{
		{Name: "referenced objects", Runnable: k.objects},
		{Name: "services", Runnable: component.RunFunc(k.services.Run)},
		{Name: "volumes", Runnable: k.volumes},
		{Name: "network", Runnable: component.RunFunc(k.network.Run)},
		{Name: "status", Runnable: k.statuses},
		{Name: "probes", Runnable: k.probes},
		{Name: "pods", Runnable: k.pool},
		{Name: "image collection", Runnable: component.RunFunc(k.collectImages)},
		{Name: "log rotation", Runnable: rotation},
		{Name: "eviction", Runnable: k.eviction},
		{Name: "lease", Runnable: component.RunFunc(lease.Run)},
	}
	parts = append(parts, k.serving...)
	return append(parts, k.sources...)
}
