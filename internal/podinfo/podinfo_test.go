package podinfo_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/podinfo"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestQOSClass(t *testing.T) {
	for name, c := range map[string]struct {
		options []testkit.PodOption
		want    corev1.PodQOSClass
	}{
		"nothing":           {nil, corev1.PodQOSBestEffort},
		"requests":          {[]testkit.PodOption{testkit.WithRequests("1", "")}, corev1.PodQOSBurstable},
		"limits only":       {[]testkit.PodOption{testkit.WithLimits("1", "1Gi")}, corev1.PodQOSGuaranteed},
		"equal":             {[]testkit.PodOption{testkit.WithRequests("1", "1Gi"), testkit.WithLimits("1", "1Gi")}, corev1.PodQOSGuaranteed},
		"lower requests":    {[]testkit.PodOption{testkit.WithRequests("500m", "1Gi"), testkit.WithLimits("1", "1Gi")}, corev1.PodQOSBurstable},
		"one limit missing": {[]testkit.PodOption{testkit.WithRequests("1", "1Gi"), testkit.WithLimits("1", "")}, corev1.PodQOSBurstable},
		"init container bare": {[]testkit.PodOption{testkit.WithLimits("1", "1Gi"), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "init"}}
		}}, corev1.PodQOSBurstable},
		"pod level": {[]testkit.PodOption{func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Limits: testkit.Resources("1", "1Gi"), Requests: testkit.Resources("1", "1Gi")}
		}}, corev1.PodQOSGuaranteed},
	} {
		if got := podinfo.QOSClass(testkit.Pod("ns", "p", c.options...)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestRequestsCountInitAndSidecars(t *testing.T) {
	pod := testkit.Pod("ns", "p", testkit.WithRequests("100m", "100Mi"))
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "sidecar", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Resources: corev1.ResourceRequirements{Requests: testkit.Resources("50m", "10Mi")}},
		{Name: "init", Resources: corev1.ResourceRequirements{Requests: testkit.Resources("1", "")}},
	}
	pod.Spec.Overhead = testkit.Resources("10m", "5Mi")
	if cpu, memory := podinfo.CPUMilli(pod), podinfo.MemoryBytes(pod); cpu != 1060 || memory != 115<<20 {
		t.Errorf("cpu %d, memory %d", cpu, memory)
	}
	if !podinfo.IsSidecar(&pod.Spec.InitContainers[0]) || podinfo.IsSidecar(&pod.Spec.InitContainers[1]) {
		t.Error("sidecars")
	}
	var names []string
	podinfo.Containers(pod, func(c *corev1.Container) bool { names = append(names, c.Name); return c.Name != "init" })
	if len(names) != 2 || names[0] != "sidecar" {
		t.Errorf("containers %v", names)
	}
}

func TestReadiness(t *testing.T) {
	now := time.Now()
	pod := testkit.Pod("ns", "p", testkit.Running("10.0.0.1"))
	podinfo.Condition(&pod.Status, corev1.PodReady).LastTransitionTime = metav1.NewTime(now.Add(-10 * time.Second))
	if !podinfo.IsReady(pod) || !podinfo.IsAvailable(pod, 0, now) || !podinfo.IsAvailable(pod, 10*time.Second, now) || podinfo.IsAvailable(pod, 11*time.Second, now) {
		t.Error("a pod ready for ten seconds")
	}
	if !podinfo.IsActive(pod) || podinfo.IsTerminal(pod) || podinfo.IsScheduled(pod) {
		t.Error("a running pod")
	}
	failed := testkit.Pod("ns", "p", testkit.InPhase(corev1.PodFailed), testkit.OnNode("n"))
	if podinfo.IsReady(failed) || podinfo.IsActive(failed) || !podinfo.IsTerminal(failed) || !podinfo.IsScheduled(failed) {
		t.Error("a failed pod")
	}
}

func TestStaticPods(t *testing.T) {
	static := testkit.Pod("ns", "p", func(p *corev1.Pod) { p.Annotations = map[string]string{podinfo.AnnotationSource: "file"} })
	api := testkit.Pod("ns", "p", func(p *corev1.Pod) { p.Annotations = map[string]string{podinfo.AnnotationSource: "api"} })
	mirror := testkit.Pod("ns", "p", func(p *corev1.Pod) { p.Annotations = map[string]string{podinfo.AnnotationMirror: "hash"} })
	system := testkit.Pod("ns", "p", func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](2000001000) })
	if !podinfo.IsStatic(static) || podinfo.IsStatic(api) || !podinfo.IsMirror(mirror) || podinfo.IsMirror(static) {
		t.Error("sources")
	}
	if !podinfo.IsCritical(static) || !podinfo.IsCritical(mirror) || !podinfo.IsCritical(system) || podinfo.IsCritical(api) {
		t.Error("critical")
	}
}
