package app

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/controller-manager/controllers/certapprover"
	"github.com/skeg-dev/skeg/controller-manager/controllers/certcleaner"
	"github.com/skeg-dev/skeg/controller-manager/controllers/certsigner"
	"github.com/skeg-dev/skeg/controller-manager/controllers/clusterrole"
	"github.com/skeg-dev/skeg/controller-manager/controllers/cronjob"
	"github.com/skeg-dev/skeg/controller-manager/controllers/daemonset"
	"github.com/skeg-dev/skeg/controller-manager/controllers/deployment"
	"github.com/skeg-dev/skeg/controller-manager/controllers/disruption"
	"github.com/skeg-dev/skeg/controller-manager/controllers/endpoints"
	"github.com/skeg-dev/skeg/controller-manager/controllers/endpointslice"
	"github.com/skeg-dev/skeg/controller-manager/controllers/endpointslicemirroring"
	"github.com/skeg-dev/skeg/controller-manager/controllers/garbagecollector"
	"github.com/skeg-dev/skeg/controller-manager/controllers/job"
	"github.com/skeg-dev/skeg/controller-manager/controllers/namespace"
	"github.com/skeg-dev/skeg/controller-manager/controllers/nodeipam"
	"github.com/skeg-dev/skeg/controller-manager/controllers/nodelifecycle"
	"github.com/skeg-dev/skeg/controller-manager/controllers/podgc"
	"github.com/skeg-dev/skeg/controller-manager/controllers/replicaset"
	"github.com/skeg-dev/skeg/controller-manager/controllers/rootca"
	"github.com/skeg-dev/skeg/controller-manager/controllers/serviceaccount"
	"github.com/skeg-dev/skeg/controller-manager/controllers/statefulset"
	"github.com/skeg-dev/skeg/controller-manager/controllers/tainteviction"
	"github.com/skeg-dev/skeg/controller-manager/controllers/tokencleaner"
	"github.com/skeg-dev/skeg/controller-manager/controllers/ttlafterfinished"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// entry is one controller. To add one: its package below controllers/, and an
// entry here; queue, back-off, leader election, metrics and --controllers come
// with it.
type entry struct {
	// name is the controller's name in --controllers; aliases are older ones.
	name    string
	aliases []string
	// off means not selected by "*".
	off bool
	// reads are the resources whose informers the controller uses. One that the
	// API server does not serve keeps the controller from starting.
	reads []schema.GroupVersionResource
	// workers is the <kind> of --concurrent-<kind>-syncs; "" means one worker.
	workers string
	// atOnce is the number of workers of those without a flag; 0 means one.
	atOnce int
	// build makes the controller; nil without an error when it is not configured.
	build func(b *builder) (reconcile.Reconciler, error)
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func in(group, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
}

var (
	pods        = core("pods")
	nodes       = core("nodes")
	services    = core("services")
	namespaces  = core("namespaces")
	deployments = in("apps", "deployments")
	replicaSets = in("apps", "replicasets")
	revisions   = in("apps", "controllerrevisions")
	slicesOf    = in("discovery.k8s.io", "endpointslices")
	requests    = in("certificates.k8s.io", "certificatesigningrequests")
)

type list = []schema.GroupVersionResource

// registry lists all controllers, in start order. The garbage collector is
// last: it shares the informers of all others.
func registry() []entry {
	return []entry{
		{name: "serviceaccount-controller", aliases: []string{"serviceaccount"}, reads: list{namespaces, core("serviceaccounts")},
			build: func(b *builder) (reconcile.Reconciler, error) { return serviceaccount.New(b.env), nil }},
		{name: "root-ca-certificate-publisher-controller", aliases: []string{"root-ca-cert-publisher"}, reads: list{namespaces, core("configmaps")},
			build: func(b *builder) (reconcile.Reconciler, error) {
				if b.rootCA == nil {
					return nil, nil
				}
				return rootca.New(b.env, b.rootCA), nil
			}},
		{name: "node-ipam-controller", aliases: []string{"nodeipam"}, reads: list{nodes}, atOnce: 4, build: buildNodeIPAM},
		{name: "node-lifecycle-controller", aliases: []string{"nodelifecycle"}, reads: list{nodes, pods, in("coordination.k8s.io", "leases")}, atOnce: 8,
			build: func(b *builder) (reconcile.Reconciler, error) { return nodelifecycle.New(b.env, b.options.Node) }},
		{name: "taint-eviction-controller", aliases: []string{"nodelifecycle-taints"}, reads: list{nodes, pods}, atOnce: 8,
			build: func(b *builder) (reconcile.Reconciler, error) { return tainteviction.New(b.env) }},
		{name: "certificatesigningrequest-approving-controller", aliases: []string{"csrapproving"}, reads: list{requests, nodes}, atOnce: 4,
			build: func(b *builder) (reconcile.Reconciler, error) {
				return certapprover.New(b.env, b.options.ApproveServing), nil
			}},
		{name: "certificatesigningrequest-signing-controller", aliases: []string{"csrsigning"}, reads: list{requests}, atOnce: 4,
			build: func(b *builder) (reconcile.Reconciler, error) {
				if b.options.Signing.Cert == "" {
					return nil, nil
				}
				return certsigner.New(b.env, b.authority, b.options.SigningDuration), nil
			}},
		{name: "certificatesigningrequest-cleaner-controller", aliases: []string{"csrcleaner"}, reads: list{requests},
			build: func(b *builder) (reconcile.Reconciler, error) { return certcleaner.New(b.env), nil }},
		{name: "deployment-controller", aliases: []string{"deployment"}, reads: list{deployments, replicaSets, pods}, workers: "deployment",
			build: func(b *builder) (reconcile.Reconciler, error) { return deployment.New(b.env) }},
		{name: "replicaset-controller", aliases: []string{"replicaset"}, reads: list{replicaSets, pods}, workers: "replicaset",
			build: func(b *builder) (reconcile.Reconciler, error) { return replicaset.New(b.env) }},
		{name: "replicationcontroller-controller", aliases: []string{"replicationcontroller"}, reads: list{core("replicationcontrollers"), pods}, workers: "rc",
			build: func(b *builder) (reconcile.Reconciler, error) { return replicaset.NewReplication(b.env) }},
		{name: "statefulset-controller", aliases: []string{"statefulset"}, workers: "statefulset",
			reads: list{in("apps", "statefulsets"), revisions, pods, core("persistentvolumeclaims")},
			build: func(b *builder) (reconcile.Reconciler, error) { return statefulset.New(b.env) }},
		{name: "daemonset-controller", aliases: []string{"daemonset"}, reads: list{in("apps", "daemonsets"), revisions, pods, nodes}, workers: "daemonset",
			build: func(b *builder) (reconcile.Reconciler, error) { return daemonset.New(b.env) }},
		{name: "job-controller", aliases: []string{"job"}, reads: list{in("batch", "jobs"), pods}, workers: "job",
			build: func(b *builder) (reconcile.Reconciler, error) { return job.New(b.env) }},
		{name: "cronjob-controller", aliases: []string{"cronjob"}, reads: list{in("batch", "cronjobs"), in("batch", "jobs")}, workers: "cron-job",
			build: func(b *builder) (reconcile.Reconciler, error) { return cronjob.New(b.env) }},
		{name: "ttl-after-finished-controller", aliases: []string{"ttl-after-finished"}, reads: list{in("batch", "jobs")}, workers: "ttl-after-finished",
			build: func(b *builder) (reconcile.Reconciler, error) { return ttlafterfinished.New(b.env), nil }},
		{name: "disruption-controller", aliases: []string{"disruption"},
			reads: list{in("policy", "poddisruptionbudgets"), pods, replicaSets, deployments, in("apps", "statefulsets"), core("replicationcontrollers")},
			build: func(b *builder) (reconcile.Reconciler, error) { return disruption.New(b.env), nil }},
		{name: "clusterrole-aggregation-controller", aliases: []string{"clusterrole-aggregation"}, reads: list{in("rbac.authorization.k8s.io", "clusterroles")},
			build: func(b *builder) (reconcile.Reconciler, error) { return clusterrole.New(b.env), nil }},
		{name: "token-cleaner-controller", aliases: []string{"tokencleaner"}, reads: list{core("secrets")},
			build: func(b *builder) (reconcile.Reconciler, error) { return tokencleaner.New(b.env), nil }},
		{name: "endpointslice-controller", aliases: []string{"endpointslice"}, reads: list{services, pods, nodes, slicesOf}, workers: "service-endpoint",
			build: func(b *builder) (reconcile.Reconciler, error) {
				return endpointslice.New(b.env, b.options.EndpointsPerSlice), nil
			}},
		{name: "endpoints-controller", aliases: []string{"endpoint"}, reads: list{services, pods, core("endpoints")}, workers: "endpoint",
			build: func(b *builder) (reconcile.Reconciler, error) { return endpoints.New(b.env), nil }},
		{name: "endpointslice-mirroring-controller", aliases: []string{"endpointslicemirroring"}, reads: list{services, core("endpoints"), slicesOf}, workers: "endpoint",
			build: func(b *builder) (reconcile.Reconciler, error) { return endpointslicemirroring.New(b.env), nil }},
		{name: "namespace-controller", aliases: []string{"namespace"}, reads: list{namespaces, pods}, workers: "namespace",
			build: func(b *builder) (reconcile.Reconciler, error) { return namespace.New(b.env), nil }},
		{name: "pod-garbage-collector-controller", aliases: []string{"podgc"}, reads: list{pods, nodes},
			build: func(b *builder) (reconcile.Reconciler, error) {
				return podgc.New(b.env, b.options.TerminatedPodLimit), nil
			}},
		{name: "garbage-collector-controller", aliases: []string{"garbagecollector"}, workers: "gc",
			build: func(b *builder) (reconcile.Reconciler, error) { return garbagecollector.New(b.env, b.shared), nil }},
	}
}

func buildNodeIPAM(b *builder) (reconcile.Reconciler, error) {
	ranges, err := b.options.ranges()
	if err != nil || len(ranges) == 0 {
		return nil, err
	}
	reserved, err := prefixes(b.options.ServiceCIDRs)
	if err != nil {
		return nil, err
	}
	return nodeipam.New(b.env, ranges, reserved)
}

// names lists the controllers' names.
func names() []string {
	var all []string
	for _, e := range registry() {
		all = append(all, e.name)
	}
	slices.Sort(all)
	return all
}

// canonical returns a controller's name for its name or alias, "" if unknown.
func canonical(name string) string {
	for _, e := range registry() {
		if e.name == name || slices.Contains(e.aliases, name) {
			return e.name
		}
	}
	return ""
}
