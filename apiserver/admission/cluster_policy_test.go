package admission

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
)

// verdict runs what a plugin implements.
func verdict(t *testing.T, p Plugin, a *Attributes) error {
	t.Helper()
	if m, ok := p.(Mutator); ok {
		if err := m.Mutate(t.Context(), a); err != nil {
			return err
		}
	}
	if v, ok := p.(Validator); ok {
		return v.Validate(t.Context(), a)
	}
	return nil
}

func says(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func podOf(requests, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}},
	}}}
}

func TestLimitRanger(t *testing.T) {
	limits := &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Default: amounts("cpu", "500m"), DefaultRequest: amounts("cpu", "100m"),
			Min: amounts("cpu", "50m"), Max: amounts("cpu", "1"), MaxLimitRequestRatio: amounts("cpu", "5")},
		{Type: corev1.LimitTypePod, Max: amounts("memory", "1Gi")},
		{Type: corev1.LimitTypePersistentVolumeClaim, Min: amounts("storage", "1Gi"), Max: amounts("storage", "10Gi")},
	}}}
	p := NewLimitRanger(objects{"limitranges/default/l": limits})
	claim := func(size string) runtime.Object {
		return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage", size)}}}
	}
	memory := amounts("memory", "100Mi")
	for _, c := range []struct {
		name, resource string
		obj            runtime.Object
		want           string
	}{
		{"defaults fit", "pods", podOf(nil, memory), ""},
		{"below min", "pods", podOf(amounts("cpu", "10m"), amounts("cpu", "50m", "memory", "1Mi")), "minimum cpu usage per Container is 50m, but request is 10m"},
		{"above max", "pods", podOf(amounts("cpu", "1"), amounts("cpu", "2", "memory", "1Mi")), "maximum cpu usage per Container is 1, but limit is 2"},
		{"ratio", "pods", podOf(amounts("cpu", "100m"), amounts("cpu", "800m", "memory", "1Mi")), "cpu max limit to request ratio per Container is 5, but provided ratio is 8"},
		{"pod without limit", "pods", podOf(nil, nil), "maximum memory usage per Pod is 1Gi.  No limit is specified"},
		{"pod above max", "pods", podOf(nil, amounts("memory", "2Gi")), "maximum memory usage per Pod is 1Gi, but limit is 2Gi"},
		{"claim", "persistentvolumeclaims", claim("5Gi"), ""},
		{"small claim", "persistentvolumeclaims", claim("1Mi"), "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"},
		{"large claim", "persistentvolumeclaims", claim("1Ti"), "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 1Ti"},
	} {
		t.Run(c.name, func(t *testing.T) { says(t, verdict(t, p, write(Create, c.resource, "x", c.obj, nil)), c.want) })
	}
	pod := podOf(nil, amounts("memory", "100Mi"))
	says(t, verdict(t, p, write(Create, "pods", "p", pod, nil)), "")
	got := pod.Spec.Containers[0].Resources
	if got.Requests.Cpu().String() != "100m" || got.Limits.Cpu().String() != "500m" {
		t.Errorf("filled %+v", got)
	}
	if text := pod.Annotations[limitRangerAnnotation]; text != "LimitRanger plugin set: cpu request for container c; cpu limit for container c" {
		t.Errorf("annotation %q", text)
	}
	if limits.Spec.Limits[0].Default.Cpu() == got.Limits.Cpu() {
		t.Error("the pod shares the limit range's values")
	}
}

func TestPodTotalCountsInitContainers(t *testing.T) {
	pod := podOf(amounts("cpu", "100m"), nil)
	sidecar := corev1.Container{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "50m")}}
	first := corev1.Container{Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "300m")}}
	pod.Spec.InitContainers = []corev1.Container{sidecar, first}
	if got := podTotal(pod, requestsOf); got.Cpu().String() != "350m" {
		t.Errorf("total %v, want the init container beside the sidecar", got.Cpu())
	}
	pod.Spec.InitContainers = []corev1.Container{sidecar}
	if got := podTotal(pod, requestsOf); got.Cpu().String() != "150m" {
		t.Errorf("total %v, want container and sidecar", got.Cpu())
	}
}

func TestPodSecurity(t *testing.T) {
	namespace := func(labels ...string) *corev1.Namespace {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{}}}
		for i := 0; i < len(labels); i += 2 {
			n.Labels["pod-security.kubernetes.io/"+labels[i]] = labels[i+1]
		}
		return n
	}
	host := podOf(nil, nil)
	host.Spec.HostNetwork = true
	deployment := &appsv1.Deployment{}
	deployment.Spec.Template.Spec = host.Spec
	for _, c := range []struct {
		name      string
		namespace *corev1.Namespace
		write     *Attributes
		want      string
		warnings  int
	}{
		{"no labels", namespace(), write(Create, "pods", "p", host, nil), "", 0},
		{"baseline", namespace("enforce", "baseline"), write(Create, "pods", "p", host, nil), `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`, 0},
		{"plain pod in baseline", namespace("enforce", "baseline"), write(Create, "pods", "p", podOf(nil, nil), nil), "", 0},
		{"restricted", namespace("enforce", "restricted", "enforce-version", "v1.30"), write(Create, "pods", "p", podOf(nil, nil), nil), `violates PodSecurity "restricted:v1.30": allowPrivilegeEscalation != false`, 0},
		{"unchanged pod", namespace("enforce", "restricted"), write(Update, "pods", "p", host, host.DeepCopy()), "", 0},
		{"warn", namespace("warn", "baseline"), write(Create, "pods", "p", host, nil), "", 1},
		{"template", namespace("enforce", "baseline", "warn", "baseline"), write(Create, "deployments", "d", deployment, nil), "", 1},
		{"bad label", namespace(), write(Create, "namespaces", "default", namespace("enforce", "strict"), nil), "must be one of privileged, baseline, restricted", 0},
		{"stricter namespace", namespace(), write(Update, "namespaces", "default", namespace("enforce", "baseline"), namespace()), "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := host.DeepCopy()
			p := NewPodSecurity(objects{"namespaces//default": c.namespace, "pods/default/host": stored})
			warnings := 0
			c.write.Warn = func(string) { warnings++ }
			says(t, verdict(t, p, c.write), c.want)
			if warnings != c.warnings {
				t.Errorf("%d warnings, want %d", warnings, c.warnings)
			}
		})
	}
}

func TestDefaultClasses(t *testing.T) {
	made := func(name, annotation string, age time.Duration) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotation: "true"}, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))}
	}
	all := objects{
		"storageclasses//old":   &storagev1.StorageClass{ObjectMeta: made("old", defaultStorageClass, time.Hour)},
		"storageclasses//new":   &storagev1.StorageClass{ObjectMeta: made("new", defaultStorageClassBeta, time.Minute)},
		"storageclasses//other": &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "other"}},
		"ingressclasses//i":     &networkingv1.IngressClass{ObjectMeta: made("i", defaultIngressClass, 0)},
	}
	for _, c := range []struct {
		name  string
		given *string
		want  string
	}{{"none", nil, "new"}, {"without class", ptr.To(""), ""}, {"named", ptr.To("other"), "other"}} {
		claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: c.given}}
		says(t, verdict(t, NewDefaultStorageClass(all), write(Create, "persistentvolumeclaims", "c", claim, nil)), "")
		if got := ptr.Deref(claim.Spec.StorageClassName, "nil"); got != c.want {
			t.Errorf("%s: class %q, want %q", c.name, got, c.want)
		}
	}
	ingress := &networkingv1.Ingress{}
	says(t, verdict(t, NewDefaultIngressClass(all), write(Create, "ingresses", "i", ingress, nil)), "")
	if ptr.Deref(ingress.Spec.IngressClassName, "") != "i" {
		t.Errorf("ingress class %v", ingress.Spec.IngressClassName)
	}
	old := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{ingressClassBeta: "nginx"}}}
	says(t, verdict(t, NewDefaultIngressClass(all), write(Create, "ingresses", "i", old, nil)), "")
	if old.Spec.IngressClassName != nil {
		t.Error("an annotated Ingress got a class")
	}
}

func TestNewNodesAreTainted(t *testing.T) {
	node := &corev1.Node{}
	for range 2 {
		says(t, verdict(t, NewTaintNodesByCondition(), write(Create, "nodes", "n", node, nil)), "")
	}
	if len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("taints %v", node.Spec.Taints)
	}
}

// signers allows "<user> <verb> <signer>".
type signers map[string]bool

func (s signers) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	if a.Group == certificatesv1.GroupName && a.Resource == "signers" && s[a.User.Name+" "+a.Verb+" "+a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

func TestSignersDecideAndSign(t *testing.T) {
	allowed := signers{"ann approve example.com/a": true, "bob approve example.com/*": true, "cas sign example.com/a": true}
	old := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: "example.com/a"}}
	signed := old.DeepCopy()
	signed.Status.Certificate = []byte("c")
	for _, c := range []struct {
		user, subresource string
		obj               runtime.Object
		want              string
	}{
		{"ann", "approval", old, ""},
		{"bob", "approval", old, ""},
		{"cas", "approval", old, `user not permitted to approve requests with signerName "example.com/a"`},
		{"cas", "status", signed, ""},
		{"ann", "status", signed, `user not permitted to sign requests with signerName "example.com/a"`},
		{"ann", "status", old.DeepCopy(), ""},
		{"ann", "", signed, ""},
	} {
		a := write(Update, "certificatesigningrequests", "r", c.obj, old)
		a.Resource.Group, a.Subresource, a.User = certificatesv1.GroupName, c.subresource, authn.User{Name: c.user}
		err := verdict(t, NewCertificateApproval(allowed), a)
		if err == nil {
			err = verdict(t, NewCertificateSigning(allowed), a)
		}
		says(t, err, c.want)
		if err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s %s: %v is not forbidden", c.user, c.subresource, err)
		}
	}
}
