// Package server is the kubelet's HTTPS API: logs, exec, attach and
// port-forward for the API server, Pods, statistics and metrics for monitoring.
// app gives its Handler and Resources to internal/component's server, which
// listens, authenticates and authorizes. It reads Pods and the container
// runtime through the interfaces in Config, and log files from disk.
// Goroutines: those of the streams it serves.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Times of streams, as upstream's kubelet has them: how long nothing may
// happen (streamingConnectionIdleTimeout) and how long a client may take to
// open the streams of a session.
const (
	defaultStreamIdle = 4 * time.Hour
	streamCreation    = 30 * time.Second
)

// Config is what a Server needs.
type Config struct {
	// NodeName is the node's own; required.
	NodeName string
	// Pods returns the node's Pods with their status as known here; required.
	Pods func() []*corev1.Pod
	// Runtime runs and lists containers; required.
	Runtime container.Runtime
	// Dial connects to a port in the Pod's network namespace; required for
	// port-forward.
	Dial func(ctx context.Context, pod types.UID, port uint16) (net.Conn, error)
	// Traffic returns what the Pod received and sent; false if unknown. nil
	// leaves network statistics out.
	Traffic func(pod types.UID) (Traffic, bool)
	// RootDir is where the node's storage is measured; "" is "/".
	RootDir string
	// LogDir is served below /logs/; "" is /var/log.
	LogDir string
	// StreamIdle ends sessions in which nothing happens; 0 is 4 hours.
	StreamIdle time.Duration
	// ProbeMetrics are served at /metrics/probes; may be nil.
	ProbeMetrics prometheus.Collector
	// Configz is what /configz shows as "kubeletconfig"; nil has no /configz.
	Configz func() any
	// Log must not be nil.
	Log *slog.Logger
}

// Traffic is what a Pod's link has carried, from the Pod's side.
type Traffic struct {
	Link                 string
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	config Config
	mux    *http.ServeMux
	usage  usage
}

// New returns a Server.
func New(config Config) (*Server, error) {
	if config.NodeName == "" || config.Pods == nil || config.Runtime == nil || config.Log == nil {
		return nil, errors.New("server: NodeName, Pods, Runtime and Log are required")
	}
	if config.RootDir == "" {
		config.RootDir = "/"
	}
	if config.LogDir == "" {
		config.LogDir = "/var/log"
	}
	if config.StreamIdle == 0 {
		config.StreamIdle = defaultStreamIdle
	}
	s := &Server{config: config, mux: http.NewServeMux()}
	for _, r := range s.routes() {
		s.mux.Handle(r.pattern, r.handler)
	}
	return s, nil
}

// Handler serves all paths but /healthz and /metrics, which every component
// has.
func (s *Server) Handler() http.Handler { return s.mux }

// pod finds a Pod by name, and UID where the path has one; it answers 404 and
// returns nil if there is none.
func (s *Server) pod(w http.ResponseWriter, r *http.Request) *corev1.Pod {
	namespace, name, uid := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid")
	for _, pod := range s.config.Pods() {
		if pod.Namespace == namespace && pod.Name == name && (uid == "" || string(pod.UID) == uid) {
			return pod
		}
	}
	http.Error(w, "pod does not exist", http.StatusNotFound)
	return nil
}

// current finds the newest attempt of a container; false if the runtime has
// none.
func (s *Server) current(ctx context.Context, pod types.UID, name string) (container.Status, bool, error) {
	sandboxes, err := s.config.Runtime.ListSandboxes(ctx)
	if err != nil {
		return container.Status{}, false, err
	}
	var found container.Status
	ok := false
	for _, sandbox := range sandboxes {
		if sandbox.Pod != pod {
			continue
		}
		for _, status := range sandbox.Containers {
			if status.ID.Name == name && (!ok || status.ID.Attempt > found.ID.Attempt) {
				found, ok = status, true
			}
		}
	}
	return found, ok, nil
}

// hasContainer reports whether the Pod has a container of any kind by that
// name.
func hasContainer(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return true
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

func (s *Server) writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.config.Log.Debug("could not write answer", "err", err)
	}
}
