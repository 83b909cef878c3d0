// Package integration runs the controllers against a real API server, both in
// this process: one scenario for each controller, from the object a user writes
// to what the controller makes of it. There is no node and no scheduler; the
// scenarios write the status of Pods themselves.
//
//	go test ./hack/integration
//	go test ./hack/integration -run TestControllers/orphan
package integration

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/apiserver/apitest"
	"github.com/skeg-dev/skeg/controller-manager/app"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// endedPodsKept is the controllers' --terminated-pod-gc-threshold.
const endedPodsKept = 2

// TestControllers starts the API server and the controller manager once and
// runs all scenarios beside each other, each in a Namespace of its own.
func TestControllers(t *testing.T) {
	server := apitest.Start(t)
	startControllers(t, server)
	for _, s := range []struct {
		name string
		run  func(*testing.T, *scenario)
	}{
		{"service-account", serviceAccount},
		{"root-ca", rootCA},
		{"namespace", namespaceDeletion},
		{"endpoint-slice", endpointSlice},
		{"endpoints", endpoints},
		{"mirroring", mirroring},
		{"replica-set", replicaSet},
		{"replica-set-adopts", replicaSetAdopts},
		{"disruption", disruption},
		{"pod-gc-ended", podGCEnded},
		{"pod-gc-out-of-service", podGCOutOfService},
		{"gc-background", background},
		{"gc-foreground", foreground},
		{"gc-orphan", orphan},
		{"csr-client", clientCertificate},
		{"csr-serving", servingCertificate},
		{"csr-cleaner", cleaner},
		{"cluster-role", clusterRole},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, newScenario(t, server, s.name))
		})
	}
}

// startControllers runs the controller manager with its own credentials until
// the test ends. Nodes are not watched over: nobody renews their leases here.
func startControllers(t *testing.T, server *apitest.Server) {
	t.Helper()
	o := app.DefaultOptions()
	o.Client.Kubeconfig = filepath.Join(filepath.Dir(server.Kubeconfig), "controller-manager.conf")
	o.Leader.Enabled = false
	o.Serving.Port = 0
	o.Controllers = []string{"*", "-node-lifecycle-controller"}
	o.TerminatedPodLimit = endedPodsKept
	o.Signing.Cert, o.Signing.Key = filepath.Join(server.PKIDir, "ca.crt"), filepath.Join(server.PKIDir, "ca.key")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run controllers: %v", err)
		}
	})
}

// scenario is what a scenario works with.
type scenario struct {
	server    *apitest.Server
	client    kubernetes.Interface
	namespace string
}

// newScenario makes a Namespace and waits until Pods can be made in it.
func newScenario(t *testing.T, server *apitest.Server, namespace string) *scenario {
	t.Helper()
	s := &scenario{server: server, client: server.Client, namespace: namespace}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := s.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the default ServiceAccount", func() error {
		_, err := s.client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return s
}

// node makes a Node that ends with the scenario.
func (s *scenario) node(t *testing.T, node *corev1.Node) {
	t.Helper()
	node.UID = ""
	status := node.Status
	made, err := s.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status = status
	if _, err := s.client.CoreV1().Nodes().UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pod makes a Pod and, when it has a phase, writes its status as a kubelet would.
func (s *scenario) pod(t *testing.T, name string, options ...testkit.PodOption) *corev1.Pod {
	t.Helper()
	pod := testkit.Pod(s.namespace, name, options...)
	pod.UID = ""
	status := pod.Status
	made, err := s.client.CoreV1().Pods(s.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Phase == "" {
		return made
	}
	made.Status = status
	return s.podStatus(t, made)
}

func (s *scenario) podStatus(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	made, err := s.client.CoreV1().Pods(s.namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}
