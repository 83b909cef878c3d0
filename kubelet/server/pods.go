package server

import (
	"cmp"
	"net/http"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func (s *Server) servePods(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, podList(s.config.Pods()))
}

func podList(pods []*corev1.Pod) *corev1.PodList {
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, pod := range pods {
		list.Items = append(list.Items, *pod)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// serveRunningPods lists what the runtime runs, known to the API or not, with
// names where they are known.
func (s *Server) serveRunningPods(w http.ResponseWriter, r *http.Request) {
	sandboxes, err := s.config.Runtime.ListSandboxes(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var running []*corev1.Pod
	for _, sandbox := range sandboxes {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: sandbox.Pod}}
		for _, known := range s.config.Pods() {
			if known.UID == sandbox.Pod {
				pod.Namespace, pod.Name = known.Namespace, known.Name
			}
		}
		for _, status := range sandbox.Containers {
			if status.State == container.Running {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: status.ID.Name})
			}
		}
		if len(pod.Spec.Containers) > 0 {
			running = append(running, pod)
		}
	}
	s.writeJSON(w, podList(running))
}

func (s *Server) serveConfigz(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, map[string]any{"kubeletconfig": s.config.Configz()})
}

// nodeLogs serves the node's log directory. Links that lead out of it are not
// followed.
func (s *Server) nodeLogs() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		root, err := os.OpenRoot(s.config.LogDir)
		if err != nil {
			http.Error(w, "log directory cannot be read", http.StatusNotFound)
			return
		}
		defer func() { _ = root.Close() }() // read-only, nothing to lose
		http.StripPrefix("/logs/", http.FileServerFS(root.FS())).ServeHTTP(w, r)
	})
}
