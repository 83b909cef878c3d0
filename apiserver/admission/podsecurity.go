package admission

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// PodSecurity holds Pods to the Pod Security Standard that their namespace's
// labels pod-security.kubernetes.io/{enforce,warn}[-version] name. Without
// labels everything is allowed.
type PodSecurity struct {
	reader    Reader
	evaluator policy.Evaluator
}

// NewPodSecurity makes the plugin.
func NewPodSecurity(reader Reader) *PodSecurity {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(fmt.Sprintf("the checks of the Pod Security Standards are inconsistent: %v", err)) // constant input
	}
	return &PodSecurity{reader: reader, evaluator: evaluator}
}

// Name is the plugin's name in flags and metrics.
func (*PodSecurity) Name() string { return "PodSecurity" }

var namespaceResource = schema.GroupResource{Resource: "namespaces"}

// privileged is the standard of a namespace without labels.
var privileged = api.Policy{
	Enforce: api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Warn:    api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
	Audit:   api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()},
}

// Validate checks Pods, warns about templates, and checks namespaces' labels.
func (p *PodSecurity) Validate(ctx context.Context, a *Attributes) error {
	if a.Operation != Create && a.Operation != Update {
		return nil
	}
	switch obj := a.Object.(type) {
	case *corev1.Namespace:
		return p.namespace(ctx, a, obj)
	case *corev1.Pod:
		return p.pod(ctx, a, obj)
	}
	if a.Subresource != "" {
		return nil
	}
	if template := templateOf(a.Object); template != nil {
		standard, err := p.standard(ctx, a.Namespace)
		if err != nil {
			return err
		}
		p.warn(a, standard, &template.ObjectMeta, &template.Spec)
	}
	return nil
}

func (p *PodSecurity) pod(ctx context.Context, a *Attributes, pod *corev1.Pod) error {
	// Ephemeral containers and resources can change the answer; the other
	// subresources leave the spec alone.
	if a.Subresource != "" && a.Subresource != "ephemeralcontainers" && a.Subresource != "resize" {
		return nil
	}
	if old, ok := a.Old.(*corev1.Pod); ok && equality.Semantic.DeepEqual(old.Spec, pod.Spec) && equality.Semantic.DeepEqual(old.Annotations, pod.Annotations) {
		return nil
	}
	standard, err := p.standard(ctx, a.Namespace)
	if err != nil {
		return err
	}
	result := p.evaluate(standard.Enforce, &pod.ObjectMeta, &pod.Spec)
	if !result.Allowed {
		return Forbidden(a, fmt.Errorf("violates PodSecurity %q: %s", standard.Enforce.String(), result.ForbiddenDetail()))
	}
	p.warn(a, standard, &pod.ObjectMeta, &pod.Spec)
	return nil
}

func (p *PodSecurity) evaluate(level api.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) policy.AggregateCheckResult {
	if level.Level == api.LevelPrivileged {
		return policy.AggregateCheckResult{Allowed: true}
	}
	return policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, meta, spec))
}

func (p *PodSecurity) warn(a *Attributes, standard api.Policy, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	if result := p.evaluate(standard.Warn, meta, spec); !result.Allowed {
		a.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", standard.Warn.String(), result.ForbiddenDetail()))
	}
}

// standard is what a namespace asks for. Labels that cannot be read count as
// the strictest standard, as upstream's do.
func (p *PodSecurity) standard(ctx context.Context, name string) (api.Policy, error) {
	obj, err := p.reader.Get(ctx, namespaceResource, "", name)
	if apierrors.IsNotFound(err) {
		obj, err = p.reader.GetLatest(ctx, namespaceResource, "", name)
	}
	if err != nil {
		return api.Policy{}, fmt.Errorf("read namespace %q: %w", name, err)
	}
	standard, _ := api.PolicyToEvaluate(obj.GetLabels(), privileged) // faults make it restricted
	return standard, nil
}

// namespace refuses labels that cannot be read, and warns of Pods that a
// stricter standard would not have let in.
func (p *PodSecurity) namespace(ctx context.Context, a *Attributes, namespace *corev1.Namespace) error {
	if a.Subresource != "" {
		return nil
	}
	wanted, faults := api.PolicyToEvaluate(namespace.Labels, privileged)
	old, updated := a.Old.(*corev1.Namespace)
	if !updated {
		if len(faults) > 0 {
			return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind(), namespace.Name, faults)
		}
		return nil
	}
	before, oldFaults := api.PolicyToEvaluate(old.Labels, privileged)
	if len(faults) > 0 && len(oldFaults) == 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind(), namespace.Name, faults)
	}
	if len(faults) > 0 || wanted.Enforce.Equivalent(&before.Enforce) || wanted.Enforce.Level == api.LevelPrivileged {
		return nil
	}
	return p.warnOfPods(ctx, a, namespace.Name, wanted.Enforce)
}

func (p *PodSecurity) warnOfPods(ctx context.Context, a *Attributes, namespace string, level api.LevelVersion) error {
	all, err := p.reader.List(ctx, podResource, namespace)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	headed := false
	for _, obj := range all {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return errors.New("list pods: found something else")
		}
		result := p.evaluate(level, &pod.ObjectMeta, &pod.Spec)
		if result.Allowed {
			continue
		}
		if !headed {
			a.Warn(fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String()))
			headed = true
		}
		a.Warn(fmt.Sprintf("%s: %s", pod.Name, result.ForbiddenReason()))
	}
	return nil
}

// templateOf is the Pod template of a kind that makes Pods, else nil.
func templateOf(obj runtime.Object) *corev1.PodTemplateSpec {
	switch o := obj.(type) {
	case *corev1.PodTemplate:
		return &o.Template
	case *corev1.ReplicationController:
		return o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	}
	return nil
}
