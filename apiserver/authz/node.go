package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/internal/component"
)

// nodeLeaseNamespace holds one Lease a node.
const nodeLeaseNamespace = corev1.NamespaceNodeLease

// Node lets kubelets (user system:node:<name> in group system:nodes) read what
// the Pods on their node refer to and write what is theirs (kubernetes.io,
// "Using Node Authorization").
type Node struct {
	graph   *nodeGraph
	mirrors []*mirror
	reader  authn.Reader
	rules   []rbacv1.PolicyRule
}

// NewNode returns the authorizer; it allows little until Parts run. reader
// finds PersistentVolumes and VolumeAttachments.
func NewNode(pods store.Store, reader authn.Reader) *Node {
	graph := newNodeGraph()
	return &Node{
		graph: graph, reader: reader, rules: NodeRules(),
		mirrors: []*mirror{{name: "pods", source: pods, follower: graph}},
	}
}

// Parts keep the graph up to date; app/ runs them.
func (n *Node) Parts() []component.Part { return parts("nodeauthz-", n.mirrors) }

// Ready returns nil once all Pods were read.
func (n *Node) Ready() error { return allReady(n.mirrors) }

// NodeName returns the node a kubelet's user stands for.
func NodeName(user authn.User) (name string, ok bool) {
	name, ok = strings.CutPrefix(user.Name, authn.NodeUserPrefix)
	return name, ok && name != "" && user.InGroup(authn.GroupNodes)
}

// Authorize has an opinion only about kubelets, and never denies: RBAC may
// give a node more.
func (n *Node) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	if !strings.HasPrefix(a.User.Name, authn.NodeUserPrefix) || !a.User.InGroup(authn.GroupNodes) {
		return NoOpinion, "", nil
	}
	node, ok := NodeName(a.User)
	if !ok {
		return NoOpinion, fmt.Sprintf("node authorizer: user %q names no node", a.User.Name), nil
	}
	if a.Path == "" {
		if d, reason, decided := n.special(ctx, node, &a); decided {
			return d, reason, nil
		}
	}
	if RulesAllow(n.rules, &a) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

// special decides requests that depend on what runs on the node; decided is
// false for others, which the rules decide.
func (n *Node) special(ctx context.Context, node string, a *Attributes) (d Decision, reason string, decided bool) {
	switch a.Group + "/" + a.Resource {
	case "/secrets", "/configmaps":
		d, reason = n.readReferenced(node, a)
	case "/persistentvolumeclaims":
		if a.Subresource == "status" {
			d, reason = n.onlyVerbs(node, a, "status", "get", "update", "patch")
		} else {
			d, reason = n.onlyVerbs(node, a, "", "get")
		}
	case "/persistentvolumes":
		d, reason = n.readVolume(ctx, node, a)
	case "/serviceaccounts":
		if a.Subresource == "" {
			d, reason = n.onlyVerbs(node, a, "", "get")
		} else {
			d, reason = n.onlyVerbs(node, a, "token", "create")
		}
	case "storage.k8s.io/volumeattachments":
		d, reason = n.readAttachment(ctx, node, a)
	case "resource.k8s.io/resourceclaims":
		d, reason = n.onlyVerbs(node, a, "", "get")
	case "coordination.k8s.io/leases":
		d, reason = ownLease(node, a)
	case "storage.k8s.io/csinodes":
		d, reason = ownNamed(node, a, "create", "get", "update", "patch", "delete")
	case "resource.k8s.io/resourceslices":
		d, reason = ownSlices(node, a)
	case "/pods":
		return n.readPods(node, a)
	case "/nodes":
		return readNode(node, a)
	default:
		return NoOpinion, "", false
	}
	return d, reason, true
}

// readReferenced allows get, and list and watch of one object by name.
func (n *Node) readReferenced(node string, a *Attributes) (Decision, string) {
	switch a.Verb {
	case "get", "list", "watch":
	default:
		return refuse("can only read resources of this type")
	}
	if a.Subresource != "" {
		return refuse("cannot read subresource")
	}
	if a.Name == "" {
		return refuse("can only read namespaced object of this type")
	}
	return n.ifUsed(node, object{a.Resource, a.Namespace, a.Name})
}

func (n *Node) onlyVerbs(node string, a *Attributes, subresource string, verbs ...string) (Decision, string) {
	if a.Subresource != subresource || !slices.Contains(verbs, a.Verb) {
		return refuse(fmt.Sprintf("can only %s individual resources of this type", strings.Join(verbs, ", ")))
	}
	if a.Name == "" {
		return refuse("can only use individual resources of this type")
	}
	return n.ifUsed(node, object{a.Resource, a.Namespace, a.Name})
}

func (n *Node) ifUsed(node string, o object) (Decision, string) {
	if n.graph.uses(node, o) {
		return Allow, ""
	}
	return NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

// readVolume follows the volume's claim.
func (n *Node) readVolume(ctx context.Context, node string, a *Attributes) (Decision, string) {
	if a.Verb != "get" || a.Subresource != "" || a.Name == "" {
		return refuse("can only get individual resources of this type")
	}
	obj, err := n.reader.Get(ctx, schema.GroupResource{Resource: "persistentvolumes"}, "", a.Name)
	if err == nil {
		if volume, ok := obj.(*corev1.PersistentVolume); ok && volume.Spec.ClaimRef != nil {
			return n.ifUsed(node, object{"persistentvolumeclaims", volume.Spec.ClaimRef.Namespace, volume.Spec.ClaimRef.Name})
		}
	}
	return NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

func (n *Node) readAttachment(ctx context.Context, node string, a *Attributes) (Decision, string) {
	if a.Verb != "get" || a.Subresource != "" || a.Name == "" {
		return refuse("can only get individual resources of this type")
	}
	obj, err := n.reader.Get(ctx, schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}, "", a.Name)
	if err == nil {
		if attachment, ok := obj.(*storagev1.VolumeAttachment); ok && attachment.Spec.NodeName == node {
			return Allow, ""
		}
	}
	return NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

func ownLease(node string, a *Attributes) (Decision, string) {
	if a.Namespace != nodeLeaseNamespace {
		return refuse("can only access leases in the " + nodeLeaseNamespace + " namespace")
	}
	return ownNamed(node, a, "create", "get", "update", "patch", "delete")
}

// ownNamed allows verbs on the object named like the node. A create may come
// without a name in its path; admission (NodeRestriction) looks into the body.
func ownNamed(node string, a *Attributes, verbs ...string) (Decision, string) {
	if a.Subresource != "" || !slices.Contains(verbs, a.Verb) {
		return refuse(fmt.Sprintf("can only %s this type of object", strings.Join(verbs, ", ")))
	}
	if a.Name != node && (a.Verb != "create" || a.Name != "") {
		return refuse("can only access the object named like the node")
	}
	return Allow, ""
}

func ownSlices(node string, a *Attributes) (Decision, string) {
	switch a.Verb {
	case "get", "create", "update", "patch", "delete":
		return Allow, "" // admission looks into the object
	case "list", "watch", "deletecollection":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return Allow, ""
		}
		return refuse("can only list/watch/deletecollection resourceslices with spec.nodeName field selector")
	}
	return refuse("can only use resourceslices of this node")
}

// readPods decides reading; writing is decided by the rules and by admission.
func (n *Node) readPods(node string, a *Attributes) (Decision, string, bool) {
	if a.Subresource != "" {
		return NoOpinion, "", false
	}
	switch a.Verb {
	case "get":
		d, reason := n.ifUsed(node, object{"pods", a.Namespace, a.Name})
		return d, reason, true
	case "list", "watch":
		if selects(a.FieldSelector, "spec.nodeName", node) {
			return Allow, "", true
		}
		if a.Name != "" {
			d, reason := n.ifUsed(node, object{"pods", a.Namespace, a.Name})
			return d, reason, true
		}
		d, reason := refuse("can only list/watch pods with spec.nodeName field selector")
		return d, reason, true
	}
	return NoOpinion, "", false
}

func readNode(node string, a *Attributes) (Decision, string, bool) {
	if a.Subresource != "" {
		return NoOpinion, "", false
	}
	switch a.Verb {
	case "get", "list", "watch":
		if a.Name == node || selects(a.FieldSelector, "metadata.name", node) {
			return Allow, "", true
		}
		d, reason := refuse(fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node))
		return d, reason, true
	}
	return NoOpinion, "", false
}

// selects reports whether requirements demand name == value.
func selects(requirements fields.Requirements, name, value string) bool {
	return slices.ContainsFunc(requirements, func(r fields.Requirement) bool {
		return r.Field == name && r.Value == value && (r.Operator == "=" || r.Operator == "==")
	})
}

func refuse(reason string) (Decision, string) { return NoOpinion, reason }
