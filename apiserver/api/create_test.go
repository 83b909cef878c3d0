package api

import (
	"strings"
	"testing"
)

// indented puts text under a YAML key.
func indented(text string, by int) string {
	pad := "\n" + strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", pad)
}

func pod(spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec:" + indented(spec, 2)
}

func podWith(container string) string {
	return pod("containers:\n- name: c\n  image: busybox\n" + "  " + strings.ReplaceAll(strings.TrimSpace(container), "\n", "\n  "))
}

func service(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: default}\nspec:" + indented(spec, 2)
}

func deployment(spec string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default}\nspec:" + indented(spec, 2)
}

const template = `
selector: {matchLabels: {a: b}}
template:
  metadata: {labels: {a: b}}
  spec: {containers: [{name: c, image: nginx}]}`

// createCases are objects and what is wrong with them.
var createCases = map[string]struct {
	object string
	faults []string
}{
	"pod":                    {pod(`containers: [{name: c, image: nginx}]`), nil},
	"pod without containers": {pod(`restartPolicy: Never`), []string{"required spec.containers"}},
	"container without name and image": {pod(`containers: [{}]`), []string{
		"required spec.containers[0].name", "required spec.containers[0].image"}},
	"container name":             {pod(`containers: [{name: Big_Name, image: nginx}]`), []string{"invalid spec.containers[0].name"}},
	"two containers of one name": {pod(`containers: [{name: c, image: a}, {name: c, image: b}]`), []string{"duplicate spec.containers[1].name"}},
	"image with spaces":          {pod(`containers: [{name: c, image: " nginx"}]`), []string{"invalid spec.containers[0].image"}},
	"restart policy":             {pod("restartPolicy: Sometimes\ncontainers: [{name: c, image: a}]"), []string{"unsupported spec.restartPolicy"}},
	"dns policy":                 {pod("dnsPolicy: Mine\ncontainers: [{name: c, image: a}]"), []string{"unsupported spec.dnsPolicy"}},
	"dns none":                   {pod("dnsPolicy: None\ncontainers: [{name: c, image: a}]"), []string{"required spec.dnsConfig"}},
	"pull policy":                {podWith("imagePullPolicy: Maybe"), []string{"unsupported spec.containers[0].imagePullPolicy"}},
	"port":                       {podWith("ports: [{containerPort: 70000}]"), []string{"invalid spec.containers[0].ports[0].containerPort"}},
	"port missing":               {podWith("ports: [{name: http}]"), []string{"required spec.containers[0].ports[0].containerPort"}},
	"port protocol":              {podWith("ports: [{containerPort: 1, protocol: XXX}]"), []string{"unsupported spec.containers[0].ports[0].protocol"}},
	"port name twice":            {podWith("ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]"), []string{"duplicate spec.containers[0].ports[1].name"}},
	"host port twice":            {podWith("ports: [{hostPort: 9, containerPort: 1}, {hostPort: 9, containerPort: 2}]"), []string{"duplicate spec.containers[0].ports[1].hostPort"}},
	"env name":                   {podWith("env: [{value: x}]"), []string{"required spec.containers[0].env[0].name"}},
	"env without source":         {podWith("env: [{name: A, valueFrom: {}}]"), []string{"invalid spec.containers[0].env[0].valueFrom"}},
	"env field":                  {podWith("env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nope}}}]"), []string{"unsupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"}},
	"env label":                  {podWith(`env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['a']"}}}]`), nil},
	"env value and source":       {podWith("env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"), []string{"invalid spec.containers[0].env[0].valueFrom"}},
	"env resource":               {podWith("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]"), []string{"unsupported spec.containers[0].env[0].valueFrom.resourceFieldRef.resource"}},
	"envFrom":                    {podWith("envFrom: [{}]"), []string{"invalid spec.containers[0].envFrom[0]"}},
	"mount of no volume":         {podWith("volumeMounts: [{name: v, mountPath: /x}]"), []string{"notfound spec.containers[0].volumeMounts[0].name"}},
	"requests over limits":       {podWith("resources: {limits: {cpu: 1}, requests: {cpu: 2}}"), []string{"invalid spec.containers[0].resources.requests"}},
	"negative limit":             {podWith("resources: {limits: {cpu: -1}}"), []string{"invalid spec.containers[0].resources.limits[cpu]", "invalid spec.containers[0].resources.requests[cpu]"}},
	"unknown resource":           {podWith("resources: {limits: {gpu: 1}}"), []string{"invalid spec.containers[0].resources.limits", "invalid spec.containers[0].resources.requests"}},
	"extended resource":          {podWith("resources: {limits: {nvidia.com/gpu: 1}}"), nil},
	"half a device": {podWith("resources: {limits: {nvidia.com/gpu: 500m}}"), []string{
		"invalid spec.containers[0].resources.limits[nvidia.com/gpu]", "invalid spec.containers[0].resources.requests[nvidia.com/gpu]"}},
	"probe without handler": {podWith("livenessProbe: {}"), []string{"required spec.containers[0].livenessProbe"}},
	"probe with two":        {podWith("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}"), []string{"forbidden spec.containers[0].livenessProbe.tcpSocket"}},
	"liveness threshold":    {podWith("livenessProbe: {exec: {command: [a]}, successThreshold: 2}"), []string{"invalid spec.containers[0].livenessProbe.successThreshold"}},
	"probe port name":       {podWith("readinessProbe: {httpGet: {port: not_a_port}}"), []string{"invalid spec.containers[0].readinessProbe.httpGet.port"}},
	"hook":                  {podWith("lifecycle: {preStop: {exec: {}}}"), []string{"required spec.containers[0].lifecycle.preStop.exec.command"}},
	"privileged":            {podWith("securityContext: {privileged: true, allowPrivilegeEscalation: false}"), []string{"invalid spec.containers[0].securityContext"}},
	"user id":               {podWith("securityContext: {runAsUser: -1}"), []string{"invalid spec.containers[0].securityContext.runAsUser"}},
	"seccomp":               {podWith("securityContext: {seccompProfile: {type: Localhost}}"), []string{"required spec.containers[0].securityContext.seccompProfile.localhostProfile"}},
	"init container probe":  {pod("containers: [{name: c, image: a}]\ninitContainers: [{name: i, image: a, readinessProbe: {exec: {command: [a]}}}]"), []string{"forbidden spec.initContainers[0].readinessProbe"}},
	"sidecar probe":         {pod("containers: [{name: c, image: a}]\ninitContainers: [{name: i, image: a, restartPolicy: Always, readinessProbe: {exec: {command: [a]}}}]"), nil},
	"ephemeral on create":   {pod("containers: [{name: c, image: a}]\nephemeralContainers: [{name: e, image: a}]"), []string{"forbidden spec.ephemeralContainers"}},
	"volume without name":   {pod("containers: [{name: c, image: a}]\nvolumes: [{emptyDir: {}}]"), []string{"required spec.volumes[0].name"}},
	"two sources":           {pod("containers: [{name: c, image: a}]\nvolumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]"), []string{"forbidden spec.volumes[0].hostPath"}},
	"host path back":        {pod("containers: [{name: c, image: a}]\nvolumes: [{name: v, hostPath: {path: /x/../y}}]"), []string{"invalid spec.volumes[0].hostPath.path"}},
	"secret volume":         {pod("containers: [{name: c, image: a}]\nvolumes: [{name: v, secret: {}}]"), []string{"required spec.volumes[0].secret.secretName"}},
	"file mode":             {pod("containers: [{name: c, image: a}]\nvolumes: [{name: v, configMap: {name: x, defaultMode: 1000}}]"), []string{"invalid spec.volumes[0].configMap.defaultMode"}},
	"climbing item":         {pod("containers: [{name: c, image: a}]\nvolumes: [{name: v, configMap: {name: x, items: [{key: a, path: ../b}]}}]"), []string{"invalid spec.volumes[0].configMap.items[0].path"}},
	"node selector":         {pod("containers: [{name: c, image: a}]\nnodeSelector: {a b: c}"), []string{"invalid spec.nodeSelector"}},
	"affinity operator": {pod("containers: [{name: c, image: a}]\naffinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Has}]}]}}}"), []string{
		"invalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator"}},
	"affinity without topology": {pod("containers: [{name: c, image: a}]\naffinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}"), []string{
		"required spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey"}},
	"toleration":                      {pod("containers: [{name: c, image: a}]\ntolerations: [{operator: Equal}]"), []string{"invalid spec.tolerations[0].operator"}},
	"toleration seconds":              {pod("containers: [{name: c, image: a}]\ntolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 3}]"), []string{"invalid spec.tolerations[0].effect"}},
	"spread":                          {pod("containers: [{name: c, image: a}]\ntopologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]"), []string{"invalid spec.topologySpreadConstraints[0].maxSkew"}},
	"gates and node":                  {pod("containers: [{name: c, image: a}]\nnodeName: n\nschedulingGates: [{name: example.com/g}]"), []string{"forbidden spec.nodeName"}},
	"deadline":                        {pod("containers: [{name: c, image: a}]\nactiveDeadlineSeconds: 0"), []string{"invalid spec.activeDeadlineSeconds"}},
	"user namespace and host network": {pod("containers: [{name: c, image: a}]\nhostUsers: false\nhostNetwork: true"), []string{"forbidden spec.hostNetwork"}},

	"service":                {service(`ports: [{port: 80}]`), nil},
	"service without ports":  {service(`selector: {a: b}`), []string{"required spec.ports"}},
	"headless without ports": {service(`clusterIP: None`), nil},
	"service port":           {service(`ports: [{port: 0}]`), []string{"invalid spec.ports[0].port", "invalid spec.ports[0].targetPort"}},
	"service port names":     {service(`ports: [{port: 1}, {port: 2}]`), []string{"required spec.ports[0].name", "required spec.ports[1].name"}},
	"service port twice":     {service(`ports: [{name: a, port: 1}, {name: b, port: 1}]`), []string{"duplicate spec.ports[1]"}},
	"node port of ClusterIP": {service(`ports: [{port: 1, nodePort: 30000}]`), []string{"forbidden spec.ports[0].nodePort"}},
	"service type":           {service("type: Magic\nports: [{port: 1}]"), []string{"unsupported spec.type"}},
	"external name":          {service("type: ExternalName"), []string{"required spec.externalName"}},
	"affinity":               {service("sessionAffinity: Sticky\nports: [{port: 1}]"), []string{"unsupported spec.sessionAffinity"}},
	"affinity timeout":       {service("sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}\nports: [{port: 1}]"), []string{"invalid spec.sessionAffinityConfig.clientIP.timeoutSeconds"}},
	"external ip":            {service("externalIPs: [127.0.0.1]\nports: [{port: 1}]"), []string{"invalid spec.externalIPs[0]"}},
	"cluster ip":             {service("clusterIP: 10.0.0.999\nports: [{port: 1}]"), []string{"invalid spec.clusterIPs[0]"}},
	"internal policy":        {service("internalTrafficPolicy: Nearby\nports: [{port: 1}]"), []string{"unsupported spec.internalTrafficPolicy"}},
	"health port":            {service("healthCheckNodePort: 31000\nports: [{port: 1}]"), []string{"invalid spec.healthCheckNodePort"}},

	"deployment":           {deployment(template), nil},
	"deployment selector":  {deployment("template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: a}]}}"), []string{"required spec.selector", "invalid spec.template.metadata.labels"}},
	"selector mismatch":    {deployment("selector: {matchLabels: {a: c}}\ntemplate: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: a}]}}"), []string{"invalid spec.template.metadata.labels"}},
	"empty selector":       {deployment("selector: {}\ntemplate: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: a}]}}"), []string{"invalid spec.selector"}},
	"negative replicas":    {deployment(template + "\nreplicas: -1"), []string{"invalid spec.replicas"}},
	"stuck strategy":       {deployment(template + "\nstrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}"), []string{"invalid spec.strategy.rollingUpdate.maxUnavailable"}},
	"strategy percentage":  {deployment(template + "\nstrategy: {rollingUpdate: {maxSurge: much}}"), []string{"invalid spec.strategy.rollingUpdate.maxSurge"}},
	"recreate and rolling": {deployment(template + "\nstrategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}"), []string{"forbidden spec.strategy.rollingUpdate"}},
	"progress deadline":    {deployment(template + "\nminReadySeconds: 600"), []string{"invalid spec.progressDeadlineSeconds"}},
	"never restarting":     {deployment("selector: {matchLabels: {a: b}}\ntemplate: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}"), []string{"unsupported spec.template.spec.restartPolicy"}},
	"template container":   {deployment("selector: {matchLabels: {a: b}}\ntemplate: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}"), []string{"required spec.template.spec.containers[0].image"}},

	"config map key":   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a/b: c}", []string{"invalid data[a/b]"}},
	"config map twice": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: c}\nbinaryData: {a: YQ==}", []string{"invalid data[a]"}},
	"tls secret":       {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls", []string{"required data[tls.crt]", "required data[tls.key]"}},
	"docker secret":    {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: nope}", []string{"invalid data[.dockerconfigjson]"}},
	"token secret":     {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/service-account-token", []string{"required metadata.annotations[kubernetes.io/service-account.name]"}},
	"namespace":        {"apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\nspec: {finalizers: [plain]}", []string{"invalid spec.finalizers[0]"}},
	"node taint":       {"apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {taints: [{key: a, effect: Never}]}", []string{"unsupported spec.taints[0].effect"}},
	"endpoints":        {"apiVersion: v1\nkind: Endpoints\nmetadata: {name: e}\nsubsets: [{addresses: [{ip: x}], ports: [{port: 1}]}]", []string{"invalid subsets[0].addresses[0].ip"}},
	"event":            {"apiVersion: v1\nkind: Event\nmetadata: {name: e, namespace: a}\ninvolvedObject: {namespace: b}", []string{"invalid involvedObject.namespace"}},
	"claim":            {"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {}", []string{"required spec.accessModes", "required spec.resources[storage]"}},
	"volume":           {"apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {accessModes: [ReadWriteOnce]}", []string{"required spec", "required spec.capacity"}},
	"limit range":      {"apiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: Container, max: {cpu: 1}, min: {cpu: 2}}]}", []string{"invalid spec.limits[0].min[cpu]"}},
	"quota":            {"apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {pods: 1.5}}", []string{"invalid spec.hard[pods]"}},

	"lease":           {"apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {leaseDurationSeconds: 0}", []string{"invalid spec.leaseDurationSeconds"}},
	"slice":           {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\nendpoints: [{addresses: ['::1']}]\nports: [{port: 1}, {port: 2}]", []string{"duplicate ports[1].name", "invalid endpoints[0].addresses[0]"}},
	"role rule":       {"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'a:b'}\nrules: [{verbs: [get]}]", []string{"required rules[0].apiGroups", "required rules[0].resources"}},
	"role url":        {"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [{verbs: [get], nonResourceURLs: [/x]}]", []string{"invalid rules[0].nonResourceURLs"}},
	"binding":         {"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r}\nroleRef: {kind: Group, name: x}\nsubjects: [{kind: User}]", []string{"required subjects[0].name", "unsupported roleRef.kind"}},
	"cluster binding": {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: r}\nroleRef: {kind: ClusterRole, name: x}\nsubjects: [{kind: ServiceAccount, name: a}]", []string{"required subjects[0].namespace"}},
	"csr":             {"apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: c}\nspec: {signerName: nodomain, request: YQ==}", []string{"invalid spec.request", "invalid spec.signerName", "required spec.usages"}},
	"priority":        {"apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: p}\nvalue: 2000000000", []string{"forbidden value"}},
	"system priority": {"apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: system-mine}\nvalue: 1", []string{"forbidden metadata.name"}},
	"job":             {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}", nil},
	"job restarting":  {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: c, image: a}]}}}", []string{"required spec.template.spec.restartPolicy"}},
	"schedule":        {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {schedule: '61 * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}}}", []string{"invalid spec.schedule"}},
	"good schedule":   {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {schedule: '*/5 1-5 1,15 jan mon-fri', timeZone: Europe/Berlin, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}}}", nil},
	"network policy":  {"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}", []string{"invalid spec.ingress[0].from[0].ipBlock.except[0]"}},
	"ingress":         {"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec: {rules: [{http: {paths: [{path: x, pathType: Prefix, backend: {service: {name: s}}}]}}]}", []string{"invalid spec.rules[0].http.paths[0].path", "required spec.rules[0].http.paths[0].backend.service"}},
	"budget":          {"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: 1, maxUnavailable: 1}", []string{"invalid spec"}},
	"storage class":   {"apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: s}\nprovisioner: ''", []string{"required provisioner"}},
}

func TestCreate(t *testing.T) {
	t.Parallel()
	for name, test := range createCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, errs := create(t, test.object)
			expectFaults(t, errs, test.faults...)
		})
	}
}
