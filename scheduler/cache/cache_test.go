package cache

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/scheduler/framework"
)

func names(s *framework.Snapshot) []string {
	var all []string
	for _, n := range s.Nodes {
		all = append(all, n.Name())
	}
	return all
}

func zoned(name, zone string) *corev1.Node {
	node := testkit.Node(name, "4", "4Gi", 10)
	if zone != "" {
		node.Labels[corev1.LabelTopologyZone] = zone
	}
	return node
}

func TestOrderAlternatesZones(t *testing.T) {
	c, s := New(), &framework.Snapshot{}
	for _, n := range []*corev1.Node{zoned("a1", "a"), zoned("a2", "a"), zoned("a3", "a"), zoned("b1", "b")} {
		c.SetNode(n)
	}
	c.Update(s)
	if diff := gocmp.Diff([]string{"a1", "b1", "a2", "a3"}, names(s)); diff != "" {
		t.Error(diff)
	}
	c.SetNode(zoned("a1", "c"))
	c.Update(s)
	if diff := gocmp.Diff([]string{"a2", "b1", "a1", "a3"}, names(s)); diff != "" {
		t.Errorf("after a move between zones: %s", diff)
	}
}

func TestAssume(t *testing.T) {
	c, s := New(), &framework.Snapshot{}
	c.SetNode(zoned("n", ""))
	pod := testkit.Pod("a", "p", testkit.WithRequests("1", "1Gi"))
	info := framework.NewPodInfo(pod)
	used := func() int64 {
		c.Update(s)
		return s.ByName["n"].Requested.MilliCPU
	}
	if err := c.Assume(info, "n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Assume(info, "n"); err == nil {
		t.Error("a Pod was assumed twice")
	}
	if got := used(); got != 1000 {
		t.Errorf("%dm used after Assume, want 1000", got)
	}
	c.Forget(pod.UID)
	if got := used(); got != 0 || c.Has(pod.UID) {
		t.Errorf("%dm used after Forget", got)
	}
	if err := c.Assume(info, "n"); err != nil {
		t.Fatal(err)
	}
	c.SetPod(testkit.Pod("a", "p", testkit.WithRequests("1", "1Gi"), testkit.OnNode("n")))
	c.Forget(pod.UID)
	if got := used(); got != 1000 {
		t.Errorf("%dm used: Forget undid what the API confirmed", got)
	}
	if _, _, assumed := c.Len(); assumed != 0 {
		t.Errorf("%d assumed after confirmation", assumed)
	}
}

func TestPodsOutliveTheirNode(t *testing.T) {
	c, s := New(), &framework.Snapshot{}
	c.SetNode(zoned("n", ""))
	c.SetPod(testkit.Pod("a", "p", testkit.WithRequests("1", "1Gi"), testkit.OnNode("n")))
	c.RemoveNode("n")
	c.Update(s)
	if len(s.Nodes) != 0 || len(s.ByName) != 0 {
		t.Fatalf("a removed node is in the snapshot: %v", names(s))
	}
	c.SetNode(zoned("n", ""))
	c.Update(s)
	if got := s.ByName["n"].Requested.MilliCPU; got != 1000 {
		t.Errorf("%dm used on the node that came back, want 1000", got)
	}
	c.RemoveNode("n")
	c.RemovePod("a-p-uid")
	if len(c.nodes) != 0 {
		t.Errorf("%d nodes are kept for nothing", len(c.nodes))
	}
}

// picture is all of a snapshot that plugins read, comparable.
func picture(s *framework.Snapshot) map[string]any {
	p := map[string]any{"order": names(s)}
	byUID := func(a, b types.UID) int { return cmp.Compare(a, b) }
	uids := func(list []*framework.PodInfo) []types.UID {
		var all []types.UID
		for _, i := range list {
			all = append(all, i.Pod.UID)
		}
		slices.SortFunc(all, byUID)
		return all
	}
	for _, n := range s.Nodes {
		if s.ByName[n.Name()] != n {
			p["mismatch "+n.Name()] = true
		}
		p["node "+n.Name()] = []any{uids(n.Pods), uids(n.WithAffinity), uids(n.WithRequiredAntiAffinity), n.Requested, n.NonZeroRequested, n.Allocatable, n.Node.Labels}
	}
	p["affine"] = len(s.WithAffinity) + 1000*len(s.WithRequiredAntiAffinity)
	for g := range s.Groups() {
		key := fmt.Sprintf("group %s %v %v", g.Like.Pod.Namespace, g.Like.Pod.Labels, g.Like.HasAffinity)
		p[key] = []any{g.Nodes, s.Domains(g, corev1.LabelTopologyZone), s.Domains(g, corev1.LabelHostname)}
	}
	p["affinity groups"] = len(slices.Collect(s.AffinityGroups()))
	p["zones"] = s.Values(corev1.LabelTopologyZone)
	return p
}

func antiAffine(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname}},
	}}
}

func TestIncrementalIsAsRebuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, incremental := New(), &framework.Snapshot{}
		nodes, pods := map[string]*corev1.Node{}, map[types.UID]*corev1.Pod{}
		nodeName := rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"})
		t.Repeat(map[string]func(*rapid.T){
			"set node": func(t *rapid.T) {
				n := zoned(nodeName.Draw(t, "node"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone"))
				nodes[n.Name] = n
				c.SetNode(n)
			},
			"remove node": func(t *rapid.T) {
				name := nodeName.Draw(t, "node")
				delete(nodes, name)
				c.RemoveNode(name)
			},
			"set pod": func(t *rapid.T) {
				p := testkit.Pod("ns", fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "pod")), testkit.OnNode(nodeName.Draw(t, "node")),
					testkit.WithLabels("app", rapid.SampledFrom([]string{"x", "y"}).Draw(t, "app")), testkit.WithRequests("100m", "1Mi"))
				if rapid.Bool().Draw(t, "affinity") {
					antiAffine(p)
				}
				pods[p.UID] = p
				c.SetPod(p)
			},
			"assume": func(t *rapid.T) {
				p := testkit.Pod("ns", fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "pod")))
				if c.Has(p.UID) {
					t.Skip("there")
				}
				node := nodeName.Draw(t, "node")
				if err := c.Assume(framework.NewPodInfo(p), node); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "forget") {
					c.Update(incremental)
					c.Forget(p.UID)
					return
				}
				p.Spec.NodeName = node
				pods[p.UID] = p
			},
			"remove pod": func(t *rapid.T) {
				uid := types.UID(fmt.Sprintf("ns-%d-uid", rapid.IntRange(0, 8).Draw(t, "pod")))
				delete(pods, uid)
				c.RemovePod(uid)
			},
			"update": func(*rapid.T) { c.Update(incremental) },
			"": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "compare") {
					return
				}
				c.Update(incremental)
				fresh, rebuilt := New(), &framework.Snapshot{}
				for n := range maps.Values(nodes) {
					fresh.SetNode(n)
				}
				for p := range maps.Values(pods) {
					fresh.SetPod(p)
				}
				fresh.Update(rebuilt)
				if diff := gocmp.Diff(picture(rebuilt), picture(incremental)); diff != "" {
					t.Fatalf("rebuilt (-) and incremental (+) differ:\n%s", diff)
				}
			},
		})
	})
}
