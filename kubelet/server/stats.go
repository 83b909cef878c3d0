//go:build linux

package server

import (
	"context"
	"net/http"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// usage turns cumulative CPU time into a rate, from one look to the next.
type usage struct {
	mu   sync.Mutex // guards seen
	seen map[container.ID]container.Stats
}

// rateWindow is the least time between two samples that a rate is made of.
const rateWindow = time.Second

// rate is the CPU use since the sample before, in billionths of a core; nil
// at the first look.
func (u *usage) rate(now container.Stats) *uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[container.ID]container.Stats{}
	}
	before, ok := u.seen[now.ID]
	passed := now.At.Sub(before.At)
	if !ok || passed >= rateWindow {
		u.seen[now.ID] = now
	}
	if !ok || passed <= 0 || now.CPUUsageNanos < before.CPUUsageNanos {
		return nil
	}
	return ptr.To(uint64(float64(now.CPUUsageNanos-before.CPUUsageNanos) / passed.Seconds()))
}

// keep forgets all Pods but these.
func (u *usage) keep(pods map[types.UID]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id := range u.seen {
		if id.Pod != "" && !pods[id.Pod] {
			delete(u.seen, id)
		}
	}
}

// podStats is a Pod with the runtime's statistics of it.
type podStats struct {
	pod        *corev1.Pod
	whole      *container.Stats // nil if the runtime has none
	containers []container.Stats
}

// collect asks the runtime about all Pods; those that are gone meanwhile are
// left out, and failed tells whether others could not be read.
func (s *Server) collect(ctx context.Context) (out []podStats, failed bool) {
	known := map[types.UID]bool{}
	for _, pod := range s.config.Pods() {
		known[pod.UID] = true
		samples, err := s.config.Runtime.Stats(ctx, pod.UID)
		if err != nil {
			if pod.Status.Phase == corev1.PodRunning {
				failed = true
				s.config.Log.Debug("could not read statistics of pod", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			}
			continue
		}
		entry := podStats{pod: pod}
		for i := range samples {
			if samples[i].ID.Name == "" {
				samples[i].ID.Pod = pod.UID
				entry.whole = &samples[i]
			} else {
				entry.containers = append(entry.containers, samples[i])
			}
		}
		out = append(out, entry)
	}
	s.usage.keep(known)
	return out, failed
}

func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	node, err := readNode()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	now := metav1.NewTime(node.At)
	fs := s.fsStats(now)
	summary := &stats.Summary{Node: stats.NodeStats{
		NodeName: s.config.NodeName, StartTime: metav1.NewTime(node.bootedAt),
		CPU: s.cpu(node.Stats), Memory: memory(node.Stats), Fs: fs, Runtime: &stats.RuntimeStats{ImageFs: fs, ContainerFs: fs},
		Rlimit: &stats.RlimitStats{Time: now, MaxPID: &node.maxPIDs, NumOfRunningProcesses: ptr.To(int64(node.Pids))},
	}, Pods: []stats.PodStats{}}
	if r.URL.Query().Get("only_cpu_and_memory") == "true" {
		summary.Node.Fs, summary.Node.Runtime, summary.Node.Rlimit = nil, nil, nil
	}
	pods, _ := s.collect(r.Context())
	for i := range pods {
		summary.Pods = append(summary.Pods, s.podSummary(&pods[i]))
	}
	s.writeJSON(w, summary)
}

func (s *Server) podSummary(p *podStats) stats.PodStats {
	out := stats.PodStats{
		PodRef:     stats.PodReference{Name: p.pod.Name, Namespace: p.pod.Namespace, UID: string(p.pod.UID)},
		Containers: []stats.ContainerStats{},
	}
	if p.pod.Status.StartTime != nil {
		out.StartTime = *p.pod.Status.StartTime
	}
	if p.whole != nil {
		out.CPU, out.Memory = s.cpu(*p.whole), memory(*p.whole)
		out.ProcessStats = &stats.ProcessStats{ProcessCount: ptr.To(p.whole.Pids)}
	}
	for _, c := range p.containers {
		out.Containers = append(out.Containers, stats.ContainerStats{
			Name: c.ID.Name, StartTime: startedAt(p.pod, c.ID.Name), CPU: s.cpu(c), Memory: memory(c),
		})
	}
	if s.config.Traffic != nil && !p.pod.Spec.HostNetwork {
		if t, ok := s.config.Traffic(p.pod.UID); ok {
			link := stats.InterfaceStats{Name: t.Link, RxBytes: &t.RxBytes, TxBytes: &t.TxBytes, RxErrors: &t.RxErrors, TxErrors: &t.TxErrors}
			out.Network = &stats.NetworkStats{Time: metav1.Now(), InterfaceStats: link, Interfaces: []stats.InterfaceStats{link}}
		}
	}
	return out
}

func startedAt(pod *corev1.Pod, name string) metav1.Time {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name && list[i].State.Running != nil {
				return list[i].State.Running.StartedAt
			}
		}
	}
	return metav1.Time{}
}

func (s *Server) cpu(c container.Stats) *stats.CPUStats {
	return &stats.CPUStats{Time: metav1.NewTime(c.At), UsageNanoCores: s.usage.rate(c), UsageCoreNanoSeconds: ptr.To(c.CPUUsageNanos)}
}

func memory(c container.Stats) *stats.MemoryStats {
	out := &stats.MemoryStats{
		Time: metav1.NewTime(c.At), UsageBytes: ptr.To(c.MemoryUsageBytes), WorkingSetBytes: ptr.To(c.MemoryWorkingSetBytes),
		RSSBytes: ptr.To(c.MemoryRSSBytes), PageFaults: ptr.To(c.PageFaults), MajorPageFaults: ptr.To(c.MajorPageFaults),
	}
	if c.MemoryLimitBytes > c.MemoryWorkingSetBytes {
		out.AvailableBytes = ptr.To(c.MemoryLimitBytes - c.MemoryWorkingSetBytes)
	}
	return out
}

// fsStats is the file system of the kubelet's directory; nil if it cannot be
// read.
func (s *Server) fsStats(now metav1.Time) *stats.FsStats {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.config.RootDir, &st); err != nil {
		s.config.Log.Debug("could not measure file system", "path", s.config.RootDir, "err", err)
		return nil
	}
	block := uint64(st.Bsize)
	return &stats.FsStats{
		Time: now, CapacityBytes: ptr.To(st.Blocks * block), AvailableBytes: ptr.To(st.Bavail * block),
		UsedBytes: ptr.To((st.Blocks - st.Bfree) * block),
		Inodes:    ptr.To(st.Files), InodesFree: ptr.To(st.Ffree), InodesUsed: ptr.To(st.Files - st.Ffree),
	}
}
