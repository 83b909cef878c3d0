package core

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Node defines the kind. Unlike elsewhere, a new Node keeps the status it is
// posted with: the kubelet registers with both.
func Node() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Node"),
		Resource:                 "nodes",
		ShortNames:               []string{"no"},
		New:                      func() runtime.Object { return &corev1.Node{} },
		NewList:                  func() runtime.Object { return &corev1.NodeList{} },
		StorePrefix:              "minions",
		Default:                  typed.Do(defaultNode),
		PrepareUpdate:            typed.Do2(func(n, old *corev1.Node) { n.Status = old.Status }),
		Validate:                 typed.Check(validateNode),
		ValidateUpdate:           typed.Check2(validateNodeUpdate),
		AllowUnconditionalUpdate: true,
		Fields: typed.Fields(func(n *corev1.Node) map[string]string {
			return map[string]string{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		}),
		Warnings: typed.Warnings(nodeWarnings),
		Columns:  nodeColumns(),
		Row:      typed.Row(nodeRow),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(func(n, old *corev1.Node) { n.Spec = old.Spec }),
			Validate: typed.Check2(validateNodeUpdate),
		},
		Subresources: []resource.Subresource{proxySubresource("NodeProxyOptions", func() runtime.Object { return &corev1.NodeProxyOptions{} })},
	}
}

// proxySubresource passes HTTP requests through to a node, pod or service.
func proxySubresource(kind string, options func() runtime.Object) resource.Subresource {
	return resource.Subresource{
		Name:    "proxy",
		Kind:    corev1.SchemeGroupVersion.WithKind(kind),
		New:     options,
		Verbs:   []string{"create", "delete", "get", "patch", "update"},
		Connect: true,
	}
}

// defaultNode makes allocatable follow capacity where the kubelet says
// nothing, and the two forms of the Pod range each other.
func defaultNode(n *corev1.Node) {
	if n.Spec.PodCIDR != "" && len(n.Spec.PodCIDRs) == 0 {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if n.Status.Allocatable != nil || n.Status.Capacity == nil {
		return
	}
	n.Status.Allocatable = n.Status.Capacity.DeepCopy()
}

func nodeColumns() []column.Definition {
	info := corev1.NodeSystemInfo{}.SwaggerDoc()
	addresses := corev1.NodeStatus{}.SwaggerDoc()["addresses"]
	return append([]column.Definition{
		column.Name(),
		column.Text("Status", "The status of the node"),
		column.Text("Roles", "The roles of the node"),
		column.Age(),
		column.Text("Version", info["kubeletVersion"]),
	}, column.Wide(
		column.Text("Internal-IP", addresses),
		column.Text("External-IP", addresses),
		column.Text("OS-Image", info["osImage"]),
		column.Text("Kernel-Version", info["kernelVersion"]),
		column.Text("Container-Runtime", info["containerRuntimeVersion"]),
	)...)
}

func nodeRow(n *corev1.Node, now metav1.Time) []any {
	info := n.Status.NodeInfo
	return []any{
		n.Name, nodeStatus(n), column.OrNone(strings.Join(nodeRoles(n), ",")),
		column.Since(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		orUnknown(info.OSImage), orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, condition := range n.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if status = "Ready"; condition.Status != corev1.ConditionTrue {
			status = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// nodeRoles reads node-role.kubernetes.io/<role> and kubernetes.io/role=<role>.
func nodeRoles(n *corev1.Node) []string {
	roles := map[string]bool{}
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles[role] = true
		} else if key == "kubernetes.io/role" && value != "" {
			roles[value] = true
		}
	}
	return slices.Sorted(maps.Keys(roles))
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, address := range n.Status.Addresses {
		if address.Type == kind {
			return address.Address
		}
	}
	return column.None
}

func orUnknown(text string) string {
	if text == "" {
		return column.Unknown
	}
	return text
}

// nodeWarnings names what is accepted but no longer does anything.
func nodeWarnings(n, _ *corev1.Node) []string {
	var warnings []string
	if n.Spec.ConfigSource != nil {
		warnings = append(warnings, "spec.configSource: the feature is no longer supported")
	}
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	return warnings
}
