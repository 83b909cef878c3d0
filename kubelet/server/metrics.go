//go:build linux

package server

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Metrics of /metrics/resource, as metrics-server and the conformance of
// KEP-727 read them.
var (
	nodeCPU         = desc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds")
	nodeMemory      = desc("node_memory_working_set_bytes", "Current working set of the node in bytes")
	containerCPU    = desc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", "container", "namespace", "pod")
	containerMemory = desc("container_memory_working_set_bytes", "Current working set of the container in bytes", "container", "namespace", "pod")
	containerStart  = desc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", "container", "namespace", "pod")
	podCPU          = desc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "namespace", "pod")
	podMemory       = desc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "namespace", "pod")
	scrapeError     = desc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// collectFunc is a prometheus.Collector without descriptions of its own: what
// it sends depends on the Pods.
type collectFunc func(out chan<- prometheus.Metric)

// Describe sends nothing, which makes the collector unchecked.
func (collectFunc) Describe(chan<- *prometheus.Desc) {}

// Collect calls f.
func (f collectFunc) Collect(out chan<- prometheus.Metric) { f(out) }

// perRequest serves what collect sends, with the request's context.
func perRequest(collect func(ctx context.Context, out chan<- prometheus.Metric)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectFunc(func(out chan<- prometheus.Metric) { collect(r.Context(), out) }))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
	})
}

func (s *Server) probeMetrics() http.Handler {
	registry := prometheus.NewRegistry()
	if s.config.ProbeMetrics != nil {
		registry.MustRegister(s.config.ProbeMetrics)
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// sample is one metric at the time it was measured.
func sample(out chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, at container.Stats, value float64, labels ...string) {
	m := prometheus.MustNewConstMetric(d, kind, value, labels...)
	if !at.At.IsZero() {
		m = prometheus.NewMetricWithTimestamp(at.At, m)
	}
	out <- m
}

func seconds(nanos uint64) float64 { return float64(nanos) / 1e9 }

func (s *Server) resourceMetrics() http.Handler {
	return perRequest(func(ctx context.Context, out chan<- prometheus.Metric) {
		failed := 0.0
		if node, err := readNode(); err == nil {
			sample(out, nodeCPU, prometheus.CounterValue, node.Stats, seconds(node.CPUUsageNanos))
			sample(out, nodeMemory, prometheus.GaugeValue, node.Stats, float64(node.MemoryWorkingSetBytes))
		} else {
			failed = 1
		}
		pods, incomplete := s.collect(ctx)
		if incomplete {
			failed = 1
		}
		for _, p := range pods {
			for _, c := range p.containers {
				labels := []string{c.ID.Name, p.pod.Namespace, p.pod.Name}
				sample(out, containerCPU, prometheus.CounterValue, c, seconds(c.CPUUsageNanos), labels...)
				sample(out, containerMemory, prometheus.GaugeValue, c, float64(c.MemoryWorkingSetBytes), labels...)
				if start := startedAt(p.pod, c.ID.Name); !start.IsZero() {
					sample(out, containerStart, prometheus.GaugeValue, container.Stats{}, float64(start.UnixNano())/1e9, labels...)
				}
			}
			if p.whole != nil {
				labels := []string{p.pod.Namespace, p.pod.Name}
				sample(out, podCPU, prometheus.CounterValue, *p.whole, seconds(p.whole.CPUUsageNanos), labels...)
				sample(out, podMemory, prometheus.GaugeValue, *p.whole, float64(p.whole.MemoryWorkingSetBytes), labels...)
			}
		}
		out <- prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, failed)
	})
}

// Metrics of /metrics/cadvisor, under the names and labels that dashboards
// query.
var (
	cadvisorLabels = []string{"container", "id", "image", "name", "namespace", "pod"}
	trafficLabels  = append([]string{"interface"}, cadvisorLabels...)

	cadvisorCPU = desc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", append([]string{"cpu"}, cadvisorLabels...)...)

	cadvisorGauges = []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value func(container.Stats) uint64
	}{
		{desc("container_memory_working_set_bytes", "Current working set in bytes.", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.MemoryWorkingSetBytes }},
		{desc("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.MemoryUsageBytes }},
		{desc("container_memory_rss", "Size of RSS in bytes.", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.MemoryRSSBytes }},
		{desc("container_memory_cache", "Number of bytes of page cache memory.", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.MemoryUsageBytes - min(c.MemoryRSSBytes, c.MemoryUsageBytes) }},
		{desc("container_spec_memory_limit_bytes", "Memory limit for the container.", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.MemoryLimitBytes }},
		{desc("container_processes", "Number of processes running inside the container.", cadvisorLabels...), prometheus.GaugeValue,
			func(c container.Stats) uint64 { return c.Pids }},
	}

	cadvisorTraffic = []struct {
		desc  *prometheus.Desc
		value func(Traffic) uint64
	}{
		{desc("container_network_receive_bytes_total", "Cumulative count of bytes received", trafficLabels...), func(t Traffic) uint64 { return t.RxBytes }},
		{desc("container_network_receive_packets_total", "Cumulative count of packets received", trafficLabels...), func(t Traffic) uint64 { return t.RxPackets }},
		{desc("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", trafficLabels...), func(t Traffic) uint64 { return t.RxDropped }},
		{desc("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", trafficLabels...), func(t Traffic) uint64 { return t.RxErrors }},
		{desc("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", trafficLabels...), func(t Traffic) uint64 { return t.TxBytes }},
		{desc("container_network_transmit_packets_total", "Cumulative count of packets transmitted", trafficLabels...), func(t Traffic) uint64 { return t.TxPackets }},
		{desc("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", trafficLabels...), func(t Traffic) uint64 { return t.TxDropped }},
		{desc("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", trafficLabels...), func(t Traffic) uint64 { return t.TxErrors }},
	}
)

func (s *Server) cadvisorMetrics() http.Handler {
	return perRequest(func(ctx context.Context, out chan<- prometheus.Metric) {
		if node, err := readNode(); err == nil {
			sendCadvisor(out, node.Stats, "", "/", "", "", "", "")
		}
		pods, _ := s.collect(ctx)
		for _, p := range pods {
			base := "/pods/" + string(p.pod.UID)
			if p.whole != nil {
				sendCadvisor(out, *p.whole, "", base, "", "", p.pod.Namespace, p.pod.Name)
			}
			for _, c := range p.containers {
				sendCadvisor(out, c, c.ID.Name, base+"/"+c.ID.Name, imageOf(p.pod, c.ID.Name), string(p.pod.UID)+"_"+c.ID.Name, p.pod.Namespace, p.pod.Name)
			}
			if s.config.Traffic == nil || p.pod.Spec.HostNetwork {
				continue
			}
			if t, ok := s.config.Traffic(p.pod.UID); ok {
				for _, m := range cadvisorTraffic {
					sample(out, m.desc, prometheus.CounterValue, container.Stats{}, float64(m.value(t)),
						t.Link, "", base, "", "", p.pod.Namespace, p.pod.Name)
				}
			}
		}
	})
}

// sendCadvisor sends all values of one cgroup; labels are cadvisorLabels.
func sendCadvisor(out chan<- prometheus.Metric, c container.Stats, labels ...string) {
	sample(out, cadvisorCPU, prometheus.CounterValue, c, seconds(c.CPUUsageNanos), append([]string{"total"}, labels...)...)
	for _, m := range cadvisorGauges {
		sample(out, m.desc, m.kind, c, float64(m.value(c)), labels...)
	}
}

func imageOf(pod *corev1.Pod, name string) string {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return pod.Spec.Containers[i].Image
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return pod.Spec.InitContainers[i].Image
		}
	}
	return ""
}
