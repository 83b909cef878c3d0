package api

import (
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

func TestAutoscaler(t *testing.T) {
	const head = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a, namespace: d}\n"
	const ref = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}"
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"defaults", "{" + ref + ", maxReplicas: 3}", nil},
		{"no target", "{maxReplicas: 3}", []string{"required spec.scaleTargetRef.kind", "required spec.scaleTargetRef.name"}},
		{"bounds", "{" + ref + ", minReplicas: 5, maxReplicas: 3}", []string{"invalid spec.maxReplicas"}},
		{"from zero by CPU", "{" + ref + ", minReplicas: 0, maxReplicas: 3}", []string{"forbidden spec.metrics"}},
		{"from zero by an external metric", "{" + ref + ", minReplicas: 0, maxReplicas: 3, metrics: [{type: External, external: {metric: {name: q}, target: {type: Value, value: 5}}}]}", nil},
		{"metric without source", "{" + ref + ", maxReplicas: 3, metrics: [{type: Pods}]}", []string{"required spec.metrics[0].pods"}},
		{"two targets", "{" + ref + ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5, averageValue: 1}}}]}", []string{"forbidden spec.metrics[0].resource.target.averageValue"}},
		{"policy", "{" + ref + ", maxReplicas: 3, behavior: {scaleUp: {policies: [{type: Pods, value: 0, periodSeconds: 3600}]}}}",
			[]string{"invalid spec.behavior.scaleUp.policies[0].value", "invalid spec.behavior.scaleUp.policies[0].periodSeconds"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, errs := create(t, head+"spec: "+c.spec)
			expectFaults(t, errs, c.want...)
		})
	}
	_, obj, _ := create(t, head+"spec: {"+ref+", maxReplicas: 3, behavior: {}}")
	h := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if *h.Spec.MinReplicas != 1 || *h.Spec.Metrics[0].Resource.Target.AverageUtilization != 80 || len(h.Spec.Behavior.ScaleUp.Policies) != 2 || h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds != nil {
		t.Errorf("defaults %+v", h.Spec)
	}
}

func TestFlowControl(t *testing.T) {
	const schema = "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: FlowSchema\nmetadata: {name: a}\nspec: "
	const level = "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: PriorityLevelConfiguration\nmetadata: {name: a}\nspec: "
	const rule = "resourceRules: [{verbs: [get], apiGroups: [''], resources: [pods], namespaces: ['*']}]"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"schema", schema + "{priorityLevelConfiguration: {name: p}, rules: [{subjects: [{kind: User, user: {name: u}}], " + rule + "}]}", nil},
		{"no level", schema + "{}", []string{"required spec.priorityLevelConfiguration.name"}},
		{"reserved precedence", schema + "{priorityLevelConfiguration: {name: p}, matchingPrecedence: 1}", []string{"invalid spec.matchingPrecedence"}},
		{"subject of another kind", schema + "{priorityLevelConfiguration: {name: p}, rules: [{subjects: [{kind: Group, user: {name: u}}], " + rule + "}]}", []string{"required spec.rules[0].subjects[0].group"}},
		{"rule without requests", schema + "{priorityLevelConfiguration: {name: p}, rules: [{subjects: [{kind: User, user: {name: u}}]}]}", []string{"required spec.rules[0]"}},
		{"level", level + "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}", nil},
		{"exempt with limits", level + "{type: Exempt, limited: {limitResponse: {type: Reject}}}", []string{"forbidden spec.limited"}},
		{"no limits", level + "{type: Limited}", []string{"required spec.limited"}},
		{"queues without queueing", level + "{type: Limited, limited: {limitResponse: {type: Reject, queuing: {}}}}", []string{"forbidden spec.limited.limitResponse.queuing"}},
		{"hand beyond queues", level + "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 2, handSize: 3}}}}", []string{"invalid spec.limited.limitResponse.queuing.handSize"}},
		{"hand with too much entropy", level + "{type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 1024, handSize: 7}}}}", []string{"invalid spec.limited.limitResponse.queuing.handSize"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, errs := create(t, c.text)
			expectFaults(t, errs, c.want...)
		})
	}
	_, obj, _ := create(t, level+"{type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}")
	if q := obj.(*flowcontrolv1.PriorityLevelConfiguration).Spec.Limited.LimitResponse.Queuing; q.Queues != 64 || q.HandSize != 8 || q.QueueLengthLimit != 50 {
		t.Errorf("queueing defaults %+v", q)
	}
}
