package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// NodeRestriction keeps a kubelet to what is its own: its Node, its Lease and
// the Pods bound to it. What it may read is the node authorizer's business.
type NodeRestriction struct {
	reader Reader
}

// NewNodeRestriction makes the plugin.
func NewNodeRestriction(reader Reader) *NodeRestriction { return &NodeRestriction{reader: reader} }

// Name is the plugin's name in flags and metrics.
func (*NodeRestriction) Name() string { return "NodeRestriction" }

var (
	podResource   = schema.GroupResource{Resource: "pods"}
	nodeResource  = schema.GroupResource{Resource: "nodes"}
	leaseResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	csiNodes      = schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}
	claims        = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

// nodeLeases is the namespace of the kubelets' leases.
const nodeLeases = "kube-node-lease"

// Mutate changes nothing; it refuses early, before other plugins read what
// the kubelet had no right to send.
func (p *NodeRestriction) Mutate(ctx context.Context, a *Attributes) error {
	if !a.User.InGroup(authn.GroupNodes) || a.Operation == Connect {
		return nil
	}
	node, ok := strings.CutPrefix(a.User.Name, authn.NodeUserPrefix)
	if !ok {
		return nil // in the group, but not a node: other rules bind it
	}
	if node == "" {
		return Forbidden(a, fmt.Errorf("could not determine node from user %q", a.User.Name))
	}
	switch a.Resource.GroupResource() {
	case podResource:
		return p.pod(ctx, a, node)
	case nodeResource:
		return admitNode(a, node)
	case serviceAccounts:
		if a.Subresource == "token" {
			return p.token(ctx, a, node)
		}
	case leaseResource:
		return admitLease(a, node)
	case csiNodes:
		if objectName(a) != node {
			return Forbidden(a, fmt.Errorf("can only access CSINode with the same name as the requesting node: %q", node))
		}
	case claims:
		return admitClaim(a)
	}
	return nil
}

func (p *NodeRestriction) pod(ctx context.Context, a *Attributes, node string) error {
	switch a.Subresource {
	case "":
		return p.wholePod(ctx, a, node)
	case "status":
		pod, okNew := a.Object.(*corev1.Pod)
		old, okOld := a.Old.(*corev1.Pod)
		if !okNew || !okOld {
			return Forbidden(a, fmt.Errorf("unexpected operation %q", a.Operation))
		}
		if old.Spec.NodeName != node {
			return Forbidden(a, fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", node))
		}
		if !equality.Semantic.DeepEqual(pod.Labels, old.Labels) {
			return Forbidden(a, fmt.Errorf("node %q cannot update labels through pod status", node))
		}
		return nil
	case "eviction":
		pod, err := p.storedPod(ctx, a.Namespace, a.Name)
		if err != nil {
			return err
		}
		if pod.Spec.NodeName != node {
			return Forbidden(a, fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", node))
		}
		return nil
	}
	return Forbidden(a, fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource))
}

func (p *NodeRestriction) wholePod(ctx context.Context, a *Attributes, node string) error {
	switch a.Operation {
	case Create:
		pod, ok := a.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("admit pod: unexpected object %T", a.Object)
		}
		return admitMirror(a, pod, node)
	case Delete:
		pod, ok := a.Old.(*corev1.Pod)
		if !ok {
			stored, err := p.storedPod(ctx, a.Namespace, a.Name)
			if err != nil {
				return err
			}
			pod = stored
		}
		if pod.Spec.NodeName != node {
			return Forbidden(a, fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", node))
		}
		return nil
	}
	return Forbidden(a, fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node))
}

// admitMirror lets a node show the static Pods it runs, which must not give
// it a way to what it could not read otherwise.
func admitMirror(a *Attributes, pod *corev1.Pod, node string) error {
	if !isMirror(pod) {
		return Forbidden(a, fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node))
	}
	if pod.Spec.NodeName != node {
		return Forbidden(a, fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", node))
	}
	owned := len(pod.OwnerReferences) == 1 && pod.OwnerReferences[0].Kind == "Node" && pod.OwnerReferences[0].Name == node
	if len(pod.OwnerReferences) > 0 && !owned {
		return Forbidden(a, fmt.Errorf("node %q can only create pods with an owner reference set to itself", node))
	}
	if pod.Spec.ServiceAccountName != "" {
		return Forbidden(a, fmt.Errorf("node %q can not create pods that reference a service account", node))
	}
	if kind := reference(pod); kind != "" {
		return Forbidden(a, fmt.Errorf("node %q can not create pods that reference %s", node, kind))
	}
	return nil
}

// reference names the first kind of object a Pod refers to.
func reference(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.Secret != nil:
			return "secrets"
		case v.ConfigMap != nil:
			return "configmaps"
		case v.PersistentVolumeClaim != nil:
			return "persistentvolumeclaims"
		case v.Projected != nil:
			return "projected volumes"
		}
	}
	for _, c := range append(append([]corev1.Container(nil), pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil {
				return "secrets"
			}
			if from.ConfigMapRef != nil {
				return "configmaps"
			}
		}
		for _, env := range c.Env {
			if env.ValueFrom == nil {
				continue
			}
			if env.ValueFrom.SecretKeyRef != nil {
				return "secrets"
			}
			if env.ValueFrom.ConfigMapKeyRef != nil {
				return "configmaps"
			}
		}
	}
	return ""
}

func (p *NodeRestriction) storedPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	obj, err := p.reader.Get(ctx, podResource, namespace, name)
	if apierrors.IsNotFound(err) {
		obj, err = p.reader.GetLatest(ctx, podResource, namespace, name)
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status, answered as it is
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("read pod %s/%s: unexpected object %T", namespace, name, obj)
	}
	return pod, nil
}

// token lets a node ask for tokens of the Pods it runs.
func (p *NodeRestriction) token(ctx context.Context, a *Attributes, node string) error {
	request, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return fmt.Errorf("admit token request: unexpected object %T", a.Object)
	}
	ref := request.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return Forbidden(a, errors.New("node requested token not bound to a pod"))
	}
	if ref.UID == "" {
		return Forbidden(a, errors.New("node requested token with a pod binding without a uid"))
	}
	pod, err := p.storedPod(ctx, a.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return Forbidden(a, err)
	}
	if pod.UID != ref.UID {
		return Forbidden(a, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	if pod.Spec.NodeName != node {
		return Forbidden(a, errors.New("node requested token bound to a pod scheduled on a different node"))
	}
	return nil
}

func admitLease(a *Attributes, node string) error {
	if a.Namespace != nodeLeases {
		return Forbidden(a, fmt.Errorf("can only access leases in the %q system namespace", nodeLeases))
	}
	if objectName(a) != node {
		return Forbidden(a, fmt.Errorf("can only access node lease with the same name as the requesting node: %q", node))
	}
	return nil
}

// admitClaim lets a node report that a volume has grown, nothing else.
func admitClaim(a *Attributes) error {
	if a.Subresource != "status" || a.Operation != Update {
		return Forbidden(a, fmt.Errorf("unexpected operation %q on claim subresource %q", a.Operation, a.Subresource))
	}
	claim, okNew := a.Object.(*corev1.PersistentVolumeClaim)
	old, okOld := a.Old.(*corev1.PersistentVolumeClaim)
	if !okNew || !okOld {
		return fmt.Errorf("admit claim: unexpected object %T", a.Object)
	}
	claim, old = claim.DeepCopy(), old.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{claim, old} {
		c.ManagedFields = nil
		c.ResourceVersion = ""
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
		c.TypeMeta = metav1.TypeMeta{}
	}
	if !equality.Semantic.DeepEqual(claim, old) {
		return Forbidden(a, errors.New("node is not allowed to update fields other than status.quantity and status.conditions"))
	}
	return nil
}
