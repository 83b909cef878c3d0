package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// backendNode is where backends run; slices list only Pods of Nodes that exist.
const backendNode = "backends"

// service makes a Service of port 80 to the container port "web".
func (s *scenario) service(t *testing.T, selector map[string]string) {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: selector,
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
		},
	}
	if _, err := s.client.CoreV1().Services(s.namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// backend makes a running Pod of app=web with the container port "web".
func (s *scenario) backend(t *testing.T, name, ip string, ready bool) *corev1.Pod {
	t.Helper()
	return s.pod(t, name, testkit.WithLabels("app", "web"), testkit.OnNode(backendNode), testkit.Running(ip), func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
		if !ready {
			p.Status.Conditions[0].Status = corev1.ConditionFalse
		}
	})
}

// makeReady marks a backend ready.
func (s *scenario) makeReady(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	pod.Status.Conditions[0].Status = corev1.ConditionTrue
	s.podStatus(t, pod)
}

// slices describes the Service's slices: "manager port address=ready ...".
func (s *scenario) slices(t *testing.T) (string, error) {
	found, err := s.client.DiscoveryV1().EndpointSlices(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		return "", err
	}
	var all []string
	for _, slice := range found.Items {
		words := []string{}
		for _, e := range slice.Endpoints {
			words = append(words, fmt.Sprintf("%s=%t", e.Addresses[0], e.Conditions.Ready == nil || *e.Conditions.Ready))
		}
		slices.Sort(words)
		head := slice.Labels[discoveryv1.LabelManagedBy]
		for _, p := range slice.Ports {
			head += fmt.Sprintf(" %s:%d", *p.Name, *p.Port)
		}
		all = append(all, strings.Join(append([]string{head}, words...), " "))
	}
	slices.Sort(all)
	return strings.Join(all, "; "), nil
}

// awaitText waits until read returns want.
func awaitText(t *testing.T, what, want string, read func(*testing.T) (string, error)) {
	t.Helper()
	testkit.Eventually(t, what, func() error {
		got, err := read(t)
		if err == nil && got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// endpointSlice: slices follow Pods' readiness and labels, and end with the Service.
func endpointSlice(t *testing.T, s *scenario) {
	const head = "endpointslice-controller.k8s.io http:8080"
	s.service(t, map[string]string{"app": "web"})
	s.node(t, testkit.Node(backendNode, "1", "1Gi", 10))
	s.backend(t, "a", "10.1.0.1", true)
	b := s.backend(t, "b", "10.1.0.2", false)
	awaitText(t, "two endpoints", head+" 10.1.0.1=true 10.1.0.2=false", s.slices)
	s.makeReady(t, b)
	awaitText(t, "both ready", head+" 10.1.0.1=true 10.1.0.2=true", s.slices)
	if err := s.client.CoreV1().Pods(s.namespace).Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	awaitText(t, "one endpoint", head+" 10.1.0.2=true", s.slices)
	if err := s.client.CoreV1().Services(s.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitText(t, "no slices", "", s.slices)
}

// endpoints: the Endpoints object follows Pods' readiness.
func endpoints(t *testing.T, s *scenario) {
	s.service(t, map[string]string{"app": "web"})
	s.backend(t, "a", "10.2.0.1", true)
	b := s.backend(t, "b", "10.2.0.2", false)
	read := func(t *testing.T) (string, error) {
		found, err := s.client.CoreV1().Endpoints(s.namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var words []string
		for _, set := range found.Subsets {
			for _, a := range set.Addresses {
				words = append(words, a.IP+"/"+a.TargetRef.Name)
			}
			for _, a := range set.NotReadyAddresses {
				words = append(words, "!"+a.IP)
			}
			for _, p := range set.Ports {
				words = append(words, fmt.Sprintf("%s:%d", p.Name, p.Port))
			}
		}
		return strings.Join(words, " "), nil
	}
	awaitText(t, "one ready address", "10.2.0.1/a !10.2.0.2 http:8080", read)
	s.makeReady(t, b)
	awaitText(t, "two ready addresses", "10.2.0.1/a 10.2.0.2/b http:8080", read)
	if err := s.client.CoreV1().Services(s.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "no Endpoints without the Service", func() error {
		_, err := read(t)
		return gone(err)
	})
}

// mirroring: Endpoints of a Service without a selector become a slice, follow
// changes, and the slice ends with them; no slice is made for the Endpoints
// that the controllers write.
func mirroring(t *testing.T, s *scenario) {
	const head = "endpointslicemirroring-controller.k8s.io http:9090"
	s.service(t, nil)
	own := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}},
			Ports:     []corev1.EndpointPort{{Name: "http", Port: 9090}},
		}},
	}
	made, err := s.client.CoreV1().Endpoints(s.namespace).Create(t.Context(), own, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitText(t, "the mirrored slice", head+" 192.0.2.1=true", s.slices)
	made.Subsets[0].NotReadyAddresses = []corev1.EndpointAddress{{IP: "192.0.2.2"}}
	if _, err := s.client.CoreV1().Endpoints(s.namespace).Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitText(t, "the second address", head+" 192.0.2.1=true 192.0.2.2=false", s.slices)
	if err := s.client.CoreV1().Endpoints(s.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitText(t, "no slices", "", s.slices)
	if _, err := s.client.CoreV1().Services(s.namespace).Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Error(errors.Join(errors.New("the Service went too"), err))
	}
}
