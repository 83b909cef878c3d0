package api

import (
	"testing"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	node := func(spec string) string {
		return "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec:" + indented(spec, 2)
	}
	configMap := func(rest string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n" + rest
	}
	for name, test := range map[string]struct {
		before, after string
		faults        []string
		// generation is the one after the update; objects begin with 1.
		generation int64
	}{
		"pod image":         {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: b, imagePullPolicy: Always}]"), nil, 2},
		"pod unchanged":     {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}]"), nil, 1},
		"pod command":       {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a, command: [x]}]"), []string{"forbidden spec"}, 2},
		"pod container":     {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}, {name: d, image: a}]"), []string{"forbidden spec.containers"}, 2},
		"pod node":          {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}]\nnodeName: n"), []string{"forbidden spec"}, 2},
		"pod deadline":      {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}]\nactiveDeadlineSeconds: 5"), nil, 2},
		"longer deadline":   {pod("containers: [{name: c, image: a}]\nactiveDeadlineSeconds: 5"), pod("containers: [{name: c, image: a}]\nactiveDeadlineSeconds: 6"), []string{"invalid spec.activeDeadlineSeconds"}, 2},
		"new toleration":    {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}]\ntolerations: [{key: a, operator: Exists}]"), nil, 2},
		"lost toleration":   {pod("containers: [{name: c, image: a}]\ntolerations: [{key: a, operator: Exists}]"), pod("containers: [{name: c, image: a}]"), []string{"forbidden spec.tolerations"}, 2},
		"gate removed":      {pod("containers: [{name: c, image: a}]\nschedulingGates: [{name: a.b/c}]"), pod("containers: [{name: c, image: a}]"), nil, 2},
		"gate added":        {pod("containers: [{name: c, image: a}]"), pod("containers: [{name: c, image: a}]\nschedulingGates: [{name: a.b/c}]"), []string{"forbidden spec.schedulingGates[0]"}, 2},
		"gated selector":    {pod("containers: [{name: c, image: a}]\nschedulingGates: [{name: a.b/c}]"), pod("containers: [{name: c, image: a}]\nschedulingGates: [{name: a.b/c}]\nnodeSelector: {a: b}"), nil, 2},
		"resources":         {podWith("resources: {limits: {cpu: 1}}"), podWith("resources: {limits: {cpu: 2}}"), []string{"forbidden spec"}, 2},
		"deployment scale":  {deployment(template), deployment(template + "\nreplicas: 5"), nil, 2},
		"deployment select": {deployment(template), deployment("selector: {matchLabels: {a: c}}\ntemplate: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: nginx}]}}"), []string{"invalid spec.selector"}, 2},
		"service ip":        {service("clusterIP: 10.0.0.1\nports: [{port: 1}]"), service("clusterIP: 10.0.0.2\nports: [{port: 1}]"), []string{"invalid spec.clusterIPs[0]"}, 0},
		"service ip kept":   {service("clusterIP: 10.0.0.1\nports: [{port: 1}]"), service("ports: [{port: 2}]"), nil, 0},
		"service external":  {service("clusterIP: 10.0.0.1\nports: [{port: 1}]"), service("type: ExternalName\nexternalName: a.b\nclusterIP: 10.0.0.1\nports: [{port: 1}]"), []string{"forbidden spec.clusterIPs"}, 0},
		"config map":        {configMap("data: {a: b}"), configMap("data: {a: c}"), nil, 0},
		"immutable":         {configMap("data: {a: b}\nimmutable: true"), configMap("data: {a: c}\nimmutable: true"), []string{"forbidden data"}, 0},
		"mutable again":     {configMap("data: {a: b}\nimmutable: true"), configMap("data: {a: b}"), []string{"forbidden immutable"}, 0},
		"secret type":       {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: a/b", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: a/c", []string{"invalid type"}, 0},
		"pod range":         {node("podCIDR: 10.1.0.0/24"), node("podCIDR: 10.2.0.0/24"), []string{"forbidden spec.podCIDRs"}, 0},
		"pod range set":     {node("unschedulable: true"), node("podCIDR: 10.2.0.0/24"), nil, 0},
		"slice type": {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv6",
			[]string{"invalid addressType"}, 1},
		"slice ports": {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\nports: [{port: 1}]", nil, 2},
		"role ref": {"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r}\nroleRef: {kind: Role, name: x}", "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r}\nroleRef: {kind: Role, name: y}",
			[]string{"invalid roleRef"}, 0},
		"priority value": {"apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: p}\nvalue: 1", "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: p}\nvalue: 2", []string{"invalid value"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, old, errs := create(t, test.before)
			expectFaults(t, errs)
			obj, errs := update(t, test.after, old)
			expectFaults(t, errs, test.faults...)
			if obj.GetGeneration() != test.generation {
				t.Errorf("generation %d, want %d", obj.GetGeneration(), test.generation)
			}
		})
	}
}
