package admission

import (
	"context"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// objects is a Reader of a fixed set, by "<resource>/<namespace>/<name>".
type objects map[string]resource.Object

func (o objects) Get(_ context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	if obj, ok := o[res.Resource+"/"+namespace+"/"+name]; ok {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(res, name)
}

func (o objects) GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	return o.Get(ctx, res, namespace, name)
}

func (o objects) List(_ context.Context, res schema.GroupResource, namespace string) ([]resource.Object, error) {
	var found []resource.Object
	for key, obj := range o {
		if strings.HasPrefix(key, res.Resource+"/"+namespace) {
			found = append(found, obj)
		}
	}
	return found, nil
}

// cluster is what the plugins of the tests read.
func cluster() objects {
	ending := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ending"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	bound := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}, Spec: corev1.PodSpec{NodeName: "n"}}
	return objects{
		"namespaces//default":             &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		"namespaces//ending":              ending,
		"serviceaccounts/default/default": &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}},
		"serviceaccounts/default/bare":    &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, AutomountServiceAccountToken: ptr.To(false)},
		"serviceaccounts/default/strict":  &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "strict", Annotations: map[string]string{enforceSecrets: "true"}}},
		"priorityclasses//high":           &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000, PreemptionPolicy: ptr.To(corev1.PreemptNever)},
		"priorityclasses//usual":          &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 7, GlobalDefault: true},
		"pods/default/p":                  bound,
	}
}

// write is a request of the tests.
func write(op Operation, resourceName, name string, obj, old runtime.Object) *Attributes {
	group := map[string]string{"leases": "coordination.k8s.io", "priorityclasses": schedulingv1.GroupName, "csinodes": "storage.k8s.io"}[resourceName]
	return &Attributes{
		Operation: op, Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: resourceName},
		Namespace: "default", Name: name, Object: obj, Old: old, Warn: func(string) {},
	}
}

func in(a *Attributes, namespace string) *Attributes { a.Namespace = namespace; return a }

func sub(a *Attributes, subresource string) *Attributes { a.Subresource = subresource; return a }

// run sends a request through a plugin as the handlers do.
func run(t *testing.T, p Plugin, a *Attributes) error {
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

func expect(t *testing.T, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Errorf("refused: %v", err)
	case text != "" && (err == nil || !strings.Contains(err.Error(), text)):
		t.Errorf("got %v, want %q", err, text)
	case text != "" && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err):
		t.Errorf("not a refusal: %v", err)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	t.Parallel()
	plugin := NewNamespaceLifecycle(cluster())
	for name, test := range map[string]struct {
		a    *Attributes
		text string
	}{
		"create":               {write(Create, "pods", "p", &corev1.Pod{}, nil), ""},
		"create in none":       {in(write(Create, "pods", "p", &corev1.Pod{}, nil), "gone"), `namespaces "gone" not found`},
		"create in ending":     {in(write(Create, "pods", "p", &corev1.Pod{}, nil), "ending"), "because it is being terminated"},
		"update in ending":     {in(write(Update, "pods", "p", &corev1.Pod{}, nil), "ending"), ""},
		"delete in none":       {in(write(Delete, "pods", "p", nil, nil), "gone"), ""},
		"cluster object":       {in(write(Create, "nodes", "n", &corev1.Node{}, nil), ""), ""},
		"delete kube-system":   {in(write(Delete, "namespaces", "kube-system", nil, nil), ""), "this namespace may not be deleted"},
		"delete any namespace": {in(write(Delete, "namespaces", "mine", nil, nil), ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, run(t, plugin, test.a), test.text)
		})
	}
	err := run(t, plugin, in(write(Create, "pods", "p", &corev1.Pod{}, nil), "ending"))
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("no cause in %v", err)
	}
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	pod := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}, InitContainers: []corev1.Container{{Name: "i"}}}}
		change(&p.Spec)
		return p
	}
	for name, test := range map[string]struct {
		pod     *corev1.Pod
		text    string
		account string
		mounted bool
	}{
		"default":          {pod(func(*corev1.PodSpec) {}), "", "default", true},
		"pod opts out":     {pod(func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = ptr.To(false) }), "", "default", false},
		"account opts out": {pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "bare" }), "", "bare", false},
		"pod opts in":      {pod(func(s *corev1.PodSpec) { s.ServiceAccountName, s.AutomountServiceAccountToken = "bare", ptr.To(true) }), "", "bare", true},
		"missing":          {pod(func(s *corev1.PodSpec) { s.ServiceAccountName = "gone" }), "error looking up service account default/gone", "", false},
		"forbidden secret": {pod(func(s *corev1.PodSpec) {
			s.ServiceAccountName = "strict"
			s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "x"}}}}
		}), `volume with secret.secretName="x" is not allowed`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := NewServiceAccount(cluster())
			a := write(Create, "pods", "p", test.pod, nil)
			err := run(t, plugin, a)
			expect(t, err, test.text)
			if test.text != "" {
				return
			}
			if test.pod.Spec.ServiceAccountName != test.account || test.pod.Spec.DeprecatedServiceAccount != test.account {
				t.Errorf("account %q", test.pod.Spec.ServiceAccountName)
			}
			mounted := len(test.pod.Spec.Volumes) == 1 && len(test.pod.Spec.Containers[0].VolumeMounts) == 1 && len(test.pod.Spec.InitContainers[0].VolumeMounts) == 1
			if mounted != test.mounted {
				t.Errorf("mounted %v: %+v", mounted, test.pod.Spec)
			}
			before := test.pod.DeepCopy()
			expect(t, run(t, plugin, a), "")
			if len(before.Spec.Volumes) != len(test.pod.Spec.Volumes) {
				t.Error("a second admission adds a second volume")
			}
		})
	}
}

func TestTokenVolume(t *testing.T) {
	t.Parallel()
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}, {Name: "own", VolumeMounts: []corev1.VolumeMount{{Name: "x", MountPath: tokenDirectory}}}}}}
	expect(t, run(t, NewServiceAccount(cluster()), write(Create, "pods", "p", p, nil)), "")
	volume := p.Spec.Volumes[0]
	if !strings.HasPrefix(volume.Name, "kube-api-access-") || len(volume.Name) != len("kube-api-access-")+5 {
		t.Errorf("name %q", volume.Name)
	}
	sources := volume.Projected.Sources
	if *sources[0].ServiceAccountToken.ExpirationSeconds != 3607 || sources[1].ConfigMap.Name != "kube-root-ca.crt" || sources[2].DownwardAPI.Items[0].FieldRef.FieldPath != "metadata.namespace" {
		t.Errorf("sources %+v", sources)
	}
	if len(p.Spec.Containers[1].VolumeMounts) != 1 {
		t.Error("a container's own mount is doubled")
	}
	if len(p.Spec.ImagePullSecrets) != 1 || p.Spec.ImagePullSecrets[0].Name != "pull" {
		t.Errorf("pull secrets %v", p.Spec.ImagePullSecrets)
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	pod := func(class string, value *int32) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: class, Priority: value}}
	}
	for name, test := range map[string]struct {
		a      *Attributes
		text   string
		class  string
		value  int32
		policy corev1.PreemptionPolicy
	}{
		"by default":  {write(Create, "pods", "p", pod("", nil), nil), "", "usual", 7, corev1.PreemptLowerPriority},
		"by class":    {write(Create, "pods", "p", pod("high", nil), nil), "", "high", 1000, corev1.PreemptNever},
		"right value": {write(Create, "pods", "p", pod("high", ptr.To[int32](1000)), nil), "", "high", 1000, corev1.PreemptNever},
		"wrong value": {write(Create, "pods", "p", pod("high", ptr.To[int32](1)), nil), "the integer value of priority (1) must not be provided", "", 0, ""},
		"no class":    {write(Create, "pods", "p", pod("gone", nil), nil), "no PriorityClass with name gone was found", "", 0, ""},
		"update keeps": {write(Update, "pods", "p", pod("high", nil), &corev1.Pod{Spec: corev1.PodSpec{Priority: ptr.To[int32](5), PreemptionPolicy: ptr.To(corev1.PreemptNever)}}),
			"", "high", 5, corev1.PreemptNever},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, run(t, NewPriority(cluster()), test.a), test.text)
			spec := test.a.Object.(*corev1.Pod).Spec
			if test.text == "" && (spec.PriorityClassName != test.class || *spec.Priority != test.value || *spec.PreemptionPolicy != test.policy) {
				t.Errorf("got %s %d %s", spec.PriorityClassName, *spec.Priority, *spec.PreemptionPolicy)
			}
		})
	}
	second := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "second"}, GlobalDefault: true}
	expect(t, run(t, NewPriority(cluster()), write(Create, "priorityclasses", "second", second, nil)), "usual is already marked as default")
}

func TestDefaultTolerationSeconds(t *testing.T) {
	t.Parallel()
	p := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}}}}
	plugin, a := NewDefaultTolerationSeconds(), write(Create, "pods", "p", p, nil)
	for range 2 {
		expect(t, run(t, plugin, a), "")
	}
	if len(p.Spec.Tolerations) != 2 || p.Spec.Tolerations[1].Key != corev1.TaintNodeUnreachable || *p.Spec.Tolerations[1].TolerationSeconds != 300 {
		t.Errorf("tolerations %+v", p.Spec.Tolerations)
	}
}

func TestNodeRestriction(t *testing.T) {
	t.Parallel()
	node := func(name string, labels map[string]string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{Taints: taints}}
	}
	mirror := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "m", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}}, Spec: corev1.PodSpec{NodeName: "n"}}
	spy := mirror.DeepCopy()
	spy.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
	own, others := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, &corev1.Pod{Spec: corev1.PodSpec{NodeName: "m"}}
	token := func(name string) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: "u"}}}
	}
	unbound := &authenticationv1.TokenRequest{}
	for name, test := range map[string]struct {
		a    *Attributes
		text string
	}{
		"own node":          {write(Create, "nodes", "n", node("n", map[string]string{corev1.LabelHostname: "n", "mine.example.com/a": "b"}), nil), ""},
		"other node":        {write(Create, "nodes", "m", node("m", nil), nil), `node "n" is not allowed to modify node "m"`},
		"role label":        {write(Create, "nodes", "n", node("n", map[string]string{"node-role.kubernetes.io/control-plane": ""}), nil), "is not allowed to set the following labels"},
		"restricted label":  {write(Update, "nodes", "n", node("n", map[string]string{"node-restriction.kubernetes.io/x": "y"}), node("n", nil)), "is not allowed to modify labels"},
		"taints":            {write(Update, "nodes", "n", node("n", nil), node("n", nil, corev1.Taint{Key: "a"})), "is not allowed to modify taints"},
		"status":            {sub(write(Update, "nodes", "n", node("n", nil), node("n", nil)), "status"), ""},
		"mirror pod":        {write(Create, "pods", "m", mirror, nil), ""},
		"plain pod":         {write(Create, "pods", "p", own, nil), "can only create mirror pods"},
		"mirror and secret": {write(Create, "pods", "m", spy, nil), "can not create pods that reference secrets"},
		"own pod status":    {sub(write(Update, "pods", "p", own, own), "status"), ""},
		"other pod status":  {sub(write(Update, "pods", "p", others, others), "status"), "can only update pod status for pods with spec.nodeName set to itself"},
		"delete own":        {write(Delete, "pods", "p", nil, own), ""},
		"delete other":      {write(Delete, "pods", "p", nil, others), "can only delete pods with spec.nodeName set to itself"},
		"bind":              {sub(write(Create, "pods", "p", &corev1.Binding{}, nil), "binding"), "unexpected pod subresource"},
		"own lease":         {in(write(Create, "leases", "n", nil, nil), nodeLeases), ""},
		"other lease":       {in(write(Update, "leases", "m", nil, nil), nodeLeases), "can only access node lease with the same name"},
		"lease elsewhere":   {write(Create, "leases", "n", nil, nil), "can only access leases in the"},
		"token of own pod":  {sub(write(Create, "serviceaccounts", "default", token("p"), nil), "token"), ""},
		"token of no pod":   {sub(write(Create, "serviceaccounts", "default", unbound, nil), "token"), "not bound to a pod"},
		"token of gone pod": {sub(write(Create, "serviceaccounts", "default", token("gone"), nil), "token"), "not found"},
		"a config map":      {write(Create, "configmaps", "c", &corev1.ConfigMap{}, nil), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.a.User = authn.User{Name: "system:node:n", Groups: []string{authn.GroupNodes}}
			expect(t, run(t, NewNodeRestriction(cluster()), test.a), test.text)
			test.a.User = authn.User{Name: "admin", Groups: []string{authn.GroupMasters}}
			expect(t, run(t, NewNodeRestriction(cluster()), test.a), "")
		})
	}
}

func TestRegistryNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range Registry(Config{Reader: cluster()}) {
		_, mutates := p.(Mutator)
		_, validates := p.(Validator)
		if seen[p.Name()] || !mutates && !validates {
			t.Errorf("plugin %q", p.Name())
		}
		seen[p.Name()] = true
	}
}
