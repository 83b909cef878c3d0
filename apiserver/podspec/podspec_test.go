package podspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func TestPullPolicy(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]corev1.PullPolicy{
		"nginx":                      corev1.PullAlways,
		"nginx:latest":               corev1.PullAlways,
		"nginx:1.2":                  corev1.PullIfNotPresent,
		"registry:5000/nginx":        corev1.PullAlways,
		"registry:5000/nginx:1":      corev1.PullIfNotPresent,
		"nginx@sha256:abc":           corev1.PullIfNotPresent,
		"registry:5000/a@sha256:abc": corev1.PullIfNotPresent,
		"nginx:latest@sha256:abc":    corev1.PullAlways,
		"":                           corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

func TestQOSClass(t *testing.T) {
	t.Parallel()
	full := corev1.ResourceRequirements{Limits: list("cpu", "1", "memory", "1Gi"), Requests: list("cpu", "1", "memory", "1Gi")}
	half := corev1.ResourceRequirements{Limits: list("cpu", "1", "memory", "1Gi"), Requests: list("cpu", "500m", "memory", "1Gi")}
	for name, test := range map[string]struct {
		containers []corev1.ResourceRequirements
		init       []corev1.ResourceRequirements
		pod        *corev1.ResourceRequirements
		want       corev1.PodQOSClass
	}{
		"nothing":              {[]corev1.ResourceRequirements{{}}, nil, nil, corev1.PodQOSBestEffort},
		"limits are requests":  {[]corev1.ResourceRequirements{full}, nil, nil, corev1.PodQOSGuaranteed},
		"less requested":       {[]corev1.ResourceRequirements{half}, nil, nil, corev1.PodQOSBurstable},
		"one has none":         {[]corev1.ResourceRequirements{full, {}}, nil, nil, corev1.PodQOSBurstable},
		"init container":       {[]corev1.ResourceRequirements{full}, []corev1.ResourceRequirements{{}}, nil, corev1.PodQOSBurstable},
		"cpu only":             {[]corev1.ResourceRequirements{{Limits: list("cpu", "1"), Requests: list("cpu", "1")}}, nil, nil, corev1.PodQOSBurstable},
		"other resources only": {[]corev1.ResourceRequirements{{Requests: list("ephemeral-storage", "1Gi")}}, nil, nil, corev1.PodQOSBestEffort},
		"the pod as a whole":   {[]corev1.ResourceRequirements{{}}, nil, &full, corev1.PodQOSGuaranteed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: corev1.PodSpec{Resources: test.pod}}
			for _, r := range test.containers {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Resources: r})
			}
			for _, r := range test.init {
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Resources: r})
			}
			if got := QOSClass(pod); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestDefaultsShareNothing(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Limits: list("cpu", "1500u")}}}}}
	Default(&pod.Spec)
	DefaultPod(pod)
	r := pod.Spec.Containers[0].Resources
	limit, request := r.Limits["cpu"], r.Requests["cpu"]
	if limit.String() != "2m" || request.String() != "2m" {
		t.Errorf("limit %s, request %s: not rounded up to thousandths", limit.String(), request.String())
	}
	r.Requests["cpu"] = resource.MustParse("9")
	if limit := r.Limits["cpu"]; limit.String() != "2m" {
		t.Error("requests and limits share a map")
	}
}
