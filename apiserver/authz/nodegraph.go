package authz

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// object names something a Pod can refer to.
type object struct{ resource, namespace, name string }

// nodeGraph knows which nodes run Pods that refer to an object.
type nodeGraph struct {
	mu    sync.RWMutex // guards all below
	pods  map[types.NamespacedName]placed
	nodes map[object]map[string]int // object → node → number of Pods there
}

// placed is what the graph keeps of a bound Pod.
type placed struct {
	node string
	refs []object
}

func newNodeGraph() *nodeGraph {
	return &nodeGraph{pods: map[types.NamespacedName]placed{}, nodes: map[object]map[string]int{}}
}

// uses reports whether a Pod on node refers to o.
func (g *nodeGraph) uses(node string, o object) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.nodes[o][node] > 0
}

func (g *nodeGraph) replace(items []*store.Item) {
	keep := map[types.NamespacedName]bool{}
	for _, item := range items {
		if pod, ok := item.Object.(*corev1.Pod); ok {
			keep[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = true
			g.set(pod)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.pods {
		if !keep[key] {
			g.drop(key)
		}
	}
}

func (g *nodeGraph) apply(e *store.Event) {
	pod, ok := e.Item.Object.(*corev1.Pod)
	if !ok {
		return
	}
	if e.Type == store.Deleted {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.drop(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
		return
	}
	// What a Pod refers to hardly changes after it is bound; most events are
	// status updates and end here.
	if e.Previous != nil {
		if previous, ok := e.Previous.Object.(*corev1.Pod); ok && sameRefs(previous, pod) {
			return
		}
	}
	g.set(pod)
}

func sameRefs(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.Spec.NodeName == b.Spec.NodeName && a.Generation == b.Generation &&
		len(a.Spec.EphemeralContainers) == len(b.Spec.EphemeralContainers) &&
		len(a.Status.ResourceClaimStatuses) == len(b.Status.ResourceClaimStatuses)
}

func (g *nodeGraph) set(pod *corev1.Pod) {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(key)
	if pod.Spec.NodeName == "" {
		return
	}
	p := placed{node: pod.Spec.NodeName, refs: []object{{"pods", pod.Namespace, pod.Name}}}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		// A kubelet writes mirror Pods itself: they may not give it anything.
		p.refs = append(p.refs, references(pod)...)
	}
	g.pods[key] = p
	for _, o := range p.refs {
		if g.nodes[o] == nil {
			g.nodes[o] = map[string]int{}
		}
		g.nodes[o][p.node]++
	}
}

// drop needs the lock.
func (g *nodeGraph) drop(key types.NamespacedName) {
	old, ok := g.pods[key]
	if !ok {
		return
	}
	delete(g.pods, key)
	for _, o := range old.refs {
		if g.nodes[o][old.node]--; g.nodes[o][old.node] <= 0 {
			delete(g.nodes[o], old.node)
		}
		if len(g.nodes[o]) == 0 {
			delete(g.nodes, o)
		}
	}
}

// references lists what a kubelet needs to read to run pod; an object may come
// twice.
func references(pod *corev1.Pod) []object {
	var refs []object
	add := func(resource, name string) {
		if name != "" {
			refs = append(refs, object{resource, pod.Namespace, name})
		}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	add("serviceaccounts", account)
	for _, s := range pod.Spec.ImagePullSecrets {
		add("secrets", s.Name)
	}
	for i := range pod.Spec.InitContainers {
		containerRefs(pod.Spec.InitContainers[i].Env, pod.Spec.InitContainers[i].EnvFrom, add)
	}
	for i := range pod.Spec.Containers {
		containerRefs(pod.Spec.Containers[i].Env, pod.Spec.Containers[i].EnvFrom, add)
	}
	for i := range pod.Spec.EphemeralContainers {
		containerRefs(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom, add)
	}
	for i := range pod.Spec.Volumes {
		volumeRefs(pod.Name, &pod.Spec.Volumes[i], add)
	}
	for _, claim := range pod.Status.ResourceClaimStatuses {
		if claim.ResourceClaimName != nil {
			add("resourceclaims", *claim.ResourceClaimName)
		}
	}
	for _, claim := range pod.Spec.ResourceClaims {
		if claim.ResourceClaimName != nil {
			add("resourceclaims", *claim.ResourceClaimName)
		}
	}
	return refs
}

func containerRefs(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(resource, name string)) {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add("secrets", r.Name)
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add("configmaps", r.Name)
		}
	}
	for _, f := range from {
		if f.SecretRef != nil {
			add("secrets", f.SecretRef.Name)
		}
		if f.ConfigMapRef != nil {
			add("configmaps", f.ConfigMapRef.Name)
		}
	}
}

func volumeRefs(pod string, v *corev1.Volume, add func(resource, name string)) {
	switch {
	case v.Secret != nil:
		add("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		add("configmaps", v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		add("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		add("persistentvolumeclaims", pod+"-"+v.Name)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				add("secrets", source.Secret.Name)
			}
			if source.ConfigMap != nil {
				add("configmaps", source.ConfigMap.Name)
			}
		}
	default:
		pluginRefs(v, add)
	}
}

// pluginRefs lists the Secrets with which volume plugins log in.
func pluginRefs(v *corev1.Volume, add func(resource, name string)) {
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			add("secrets", r.Name)
		}
	}
	switch {
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.AzureFile != nil:
		add("secrets", v.AzureFile.SecretName)
	}
}
