package api

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var writeGolden = flag.Bool("update", false, "write the golden files instead of comparing with them")

// minimal are objects with only what a client must say. What the server makes
// of them is in testdata/default, to be read by people.
var minimal = map[string]string{
	"pod": pod(`
containers:
- name: c
  image: registry:5000/app
  ports: [{containerPort: 80}]
  env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  resources: {limits: {cpu: 1, memory: 64Mi}}
  livenessProbe: {httpGet: {port: 80}}
  lifecycle: {preStop: {httpGet: {port: 80}}}
- name: d
  image: app:v1
volumes:
- name: none
- name: s
  secret: {secretName: s}
- name: h
  hostPath: {path: /x}
- name: p
  projected: {sources: [{serviceAccountToken: {path: t}}, {downwardAPI: {items: [{path: f, fieldRef: {fieldPath: metadata.name}}]}}]}
- name: i
  image: {reference: "a:latest"}
`),
	"pod-hostnetwork":  pod("hostNetwork: true\ncontainers: [{name: c, image: a, ports: [{containerPort: 80}]}]"),
	"pod-gated":        pod("schedulingGates: [{name: a.b/c}]\ncontainers: [{name: c, image: a}]"),
	"service":          service("ports: [{port: 80}]"),
	"service-nodeport": service("type: NodePort\nsessionAffinity: ClientIP\nports: [{port: 80, targetPort: http}]"),
	"service-balanced": service("type: LoadBalancer\nports: [{port: 80}]"),
	"deployment":       deployment(template),
	"replicaset":       "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: r, namespace: default}\nspec:" + indented(template, 2),
	"daemonset":        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d, namespace: default}\nspec:" + indented(template, 2),
	"statefulset":      "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s, namespace: default}\nspec:" + indented(template+"\nvolumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]", 2),
	"job":              "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: default}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}",
	"cronjob":          "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j, namespace: default}\nspec: {schedule: '@daily', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}}}",
	"namespace":        "apiVersion: v1\nkind: Namespace\nmetadata: {name: space}",
	"node":             "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nspec: {podCIDR: 10.0.0.0/24}\nstatus: {capacity: {cpu: 1}}",
	"secret":           "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}",
	"claim":            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], dataSource: {kind: PersistentVolumeClaim, name: o}, resources: {requests: {storage: 1Gi}}}",
	"volume":           "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}",
	"limitrange":       "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: Container, max: {cpu: 2}, min: {memory: 1Mi}}]}",
	"endpoints":        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: e}\nsubsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]",
	"endpointslice":    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\nports: [{port: 80}]",
	"rolebinding":      "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r}\nroleRef: {kind: Role, name: x}\nsubjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s}]",
	"priorityclass":    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: p}\nvalue: 1",
	"networkpolicy":    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}",
	"storageclass":     "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: s}\nprovisioner: a.b/c",
	"csidriver":        "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: d.example.com}\nspec: {}",
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for name, text := range minimal {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, obj, errs := create(t, text)
			expectFaults(t, errs)
			got, err := yaml.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join("testdata", "default", name+".yaml"), got)
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *writeGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read golden file (make it with -update): %v", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
