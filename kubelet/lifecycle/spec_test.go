package lifecycle

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	image := Image{Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}}
	for _, test := range []struct {
		name          string
		command, args []string
		want          string
	}{
		{"image", nil, nil, "/entry cmd"},
		{"args replace cmd", nil, []string{"a"}, "/entry a"},
		{"command replaces both", []string{"/own"}, nil, "/own"},
		{"both", []string{"/own"}, []string{"a", "b"}, "/own a b"},
		{"expansion", []string{"$(A)", "$$(A)", "$(B)", "$A", "x$"}, nil, "1 $(A) $(B) $A x$"},
	} {
		got, err := command(&corev1.Container{Command: test.command, Args: test.args}, image, []string{"A=1"})
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	if _, err := command(&corev1.Container{}, Image{}, nil); err == nil {
		t.Error("no command at all is no error")
	}
}

func TestMergeEnv(t *testing.T) {
	t.Parallel()
	got := mergeEnv([]string{"A=image", "B=image"}, []string{"B=own", "C=own"})
	want := []string{"A=image", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "B=own", "C=own"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSecurity(t *testing.T) {
	t.Parallel()
	k := &Containers{SeccompDefault: true, SeccompRoot: "/var/lib/kubelet/seccomp"}
	pod := &corev1.Pod{}
	plain := k.security(pod, &corev1.Container{})
	if plain.SeccompProfile != "runtime/default" || len(plain.MaskedPaths) == 0 || plain.NoNewPrivileges || len(plain.Capabilities) != 14 {
		t.Errorf("plain: %+v", plain)
	}
	strict := k.security(pod, &corev1.Container{SecurityContext: &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("../../etc/x.json")},
	}})
	if !strict.NoNewPrivileges || !strict.ReadOnlyRoot || !slices.Equal(strict.Capabilities, []string{"CAP_NET_BIND_SERVICE"}) {
		t.Errorf("strict: %+v", strict)
	}
	if strict.SeccompProfile != "localhost//var/lib/kubelet/seccomp/etc/x.json" {
		t.Errorf("profile: %s", strict.SeccompProfile)
	}
	privileged := k.security(pod, &corev1.Container{SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)}})
	if !privileged.Privileged || privileged.SeccompProfile != "unconfined" || len(privileged.MaskedPaths) > 0 || len(privileged.Capabilities) < 40 {
		t.Errorf("privileged: %+v", privileged)
	}
}

func TestUserAndNonRoot(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsGroup: ptr.To[int64](7), RunAsNonRoot: ptr.To(true)}}}
	c := &corev1.Container{Name: "c"}
	if got := userOf(pod, c, "www:www"); got != "www:7" {
		t.Errorf("user %q", got)
	}
	for _, test := range []struct {
		image string
		uid   *int64
		fault string
	}{
		{"", nil, "image will run as root"}, {"www", nil, "non-numeric user (www)"}, {"1000", nil, ""},
		{"", ptr.To[int64](0), "runAsUser breaks non-root policy"}, {"", ptr.To[int64](5), ""},
	} {
		c.SecurityContext = &corev1.SecurityContext{RunAsUser: test.uid}
		err := checkNonRoot(pod, c, test.image)
		if (err == nil) != (test.fault == "") || (err != nil && !strings.Contains(err.Error(), test.fault)) {
			t.Errorf("%q %v: %v, want %q", test.image, test.uid, err, test.fault)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	k := &Containers{NodeMemoryBytes: 1 << 30}
	pod := &corev1.Pod{Status: corev1.PodStatus{QOSClass: corev1.PodQOSBurstable}}
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")},
	}}
	got := k.resources(pod, c)
	if got.CPUShares != 256 || got.CPUQuotaMicros != 50_000 || got.CPUPeriodMicros != 100_000 || got.MemoryLimitBytes != 1<<30 || got.OOMScoreAdj != 500 {
		t.Errorf("%+v", got)
	}
	pod.Status.QOSClass = corev1.PodQOSGuaranteed
	if got := k.resources(pod, c).OOMScoreAdj; got != -997 {
		t.Errorf("guaranteed: %d", got)
	}
}

func TestPodCgroup(t *testing.T) {
	t.Parallel()
	limited := corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceCPU: resource.MustParse("1")}}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: limited}, {Resources: limited}}}}
	got := (&Cgroup{PidsLimit: 100}).podResources(pod)
	if got.MemoryLimitBytes != 2<<30 || got.CPUQuotaMicros != 200_000 || got.PidsLimit != 100 {
		t.Errorf("%+v", got)
	}
	pod.Spec.Containers[1].Resources = corev1.ResourceRequirements{}
	if got := (&Cgroup{}).podResources(pod); got.MemoryLimitBytes != 0 || got.CPUQuotaMicros != 0 || got.CPUShares != 2 {
		t.Errorf("with an unlimited container: %+v", got)
	}
}
