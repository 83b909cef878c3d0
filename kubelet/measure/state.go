package measure

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/internal/podinfo"
	"github.com/skeg-dev/skeg/kubelet/container"
)

// Sources are what is read when metrics are asked for.
type Sources struct {
	// Sandboxes lists what runs; Pods are the node's. Both are required.
	Sandboxes func(context.Context) ([]container.Sandbox, error)
	Pods      func() []*corev1.Pod
	// Driver names the driver of a volume; "" if there is none. Required.
	Driver func(*corev1.Volume) string
	// ClientExpiry and ServerExpiry are when the certificates end; nil, or a
	// zero time, where none is known.
	ClientExpiry, ServerExpiry func() time.Time
	Logger                     *slog.Logger
}

// Watch says where the state is read from now on.
func (s *Set) Watch(sources Sources) {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.sources = &sources
}

// state collects gauges at the moment they are asked for.
type state struct {
	metrics.BaseStableCollector
	clock                                               clock.PassiveClock
	pods, containers, clientTTL, serverTTL, volumeCount *metrics.Desc

	mu sync.Mutex // guards what follows
	// sources is nil before Watch.
	sources *Sources
	// volumes are those set up, of each Pod.
	volumes map[types.UID]*corev1.Pod
}

func newState(clock clock.PassiveClock) *state {
	desc := func(name, help string, labels ...string) *metrics.Desc {
		return metrics.NewDesc(name, help, labels, nil, metrics.ALPHA, "")
	}
	return &state{
		clock:       clock,
		volumes:     map[types.UID]*corev1.Pod{},
		pods:        desc("kubelet_running_pods", "Number of pods with a running sandbox"),
		containers:  desc("kubelet_running_containers", "Number of containers, by state", "container_state"),
		clientTTL:   desc("kubelet_certificate_manager_client_ttl_seconds", "Time until the client certificate ends in seconds, infinite if the kubelet does not keep one"),
		serverTTL:   desc("kubelet_certificate_manager_server_ttl_seconds", "Time until the serving certificate ends in seconds, infinite if there is none"),
		volumeCount: desc("volume_manager_total_volumes", "Number of volumes, by driver, wanted (desired_state_of_world) and set up (actual_state_of_world)", "plugin_name", "state"),
	}
}

func (s *state) mounted(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes[pod.UID] = pod
}

func (s *state) unmounted(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.volumes, uid)
}

// DescribeWithStability lists the gauges.
func (s *state) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{s.pods, s.containers, s.clientTTL, s.serverTTL, s.volumeCount} {
		ch <- d
	}
}

// CollectWithStability reads them.
func (s *state) CollectWithStability(ch chan<- metrics.Metric) {
	s.mu.Lock()
	sources := s.sources
	actual := make([]*corev1.Pod, 0, len(s.volumes))
	for _, pod := range s.volumes {
		actual = append(actual, pod)
	}
	s.mu.Unlock()
	if sources == nil {
		return
	}
	gauge := func(d *metrics.Desc, value float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, value, labels...)
	}
	gauge(s.clientTTL, s.ttl(sources.ClientExpiry))
	gauge(s.serverTTL, s.ttl(sources.ServerExpiry))
	s.running(sources, gauge)
	wanted := []*corev1.Pod{}
	for _, pod := range sources.Pods() {
		if !podinfo.IsTerminal(pod) {
			wanted = append(wanted, pod)
		}
	}
	for label, pods := range map[string][]*corev1.Pod{"desired_state_of_world": wanted, "actual_state_of_world": actual} {
		for driver, count := range countVolumes(pods, sources.Driver) {
			gauge(s.volumeCount, float64(count), driver, label)
		}
	}
}

func (s *state) ttl(expiry func() time.Time) float64 {
	if expiry != nil {
		if at := expiry(); !at.IsZero() {
			return at.Sub(s.clock.Now()).Seconds()
		}
	}
	return math.Inf(1)
}

func (s *state) running(sources *Sources, gauge func(*metrics.Desc, float64, ...string)) {
	sandboxes, err := sources.Sandboxes(context.Background())
	if err != nil {
		sources.Logger.Warn("counting containers", "error", err)
		return
	}
	pods := 0
	states := map[container.State]int{container.Created: 0, container.Running: 0, container.Exited: 0}
	for _, sandbox := range sandboxes {
		if !sandbox.CreatedAt.IsZero() { // else it was never finished
			pods++
		}
		for _, status := range sandbox.Containers {
			states[status.State]++
		}
	}
	gauge(s.pods, float64(pods))
	for name, count := range states {
		gauge(s.containers, float64(count), string(name))
	}
}

func countVolumes(pods []*corev1.Pod, driver func(*corev1.Volume) string) map[string]int {
	counts := map[string]int{}
	for _, pod := range pods {
		for i := range pod.Spec.Volumes {
			if name := driver(&pod.Spec.Volumes[i]); name != "" {
				counts[name]++
			}
		}
	}
	return counts
}
