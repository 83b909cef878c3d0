package plugins

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/scheduler/framework"
)

// cluster makes a snapshot of nodes and the Pods on them (by spec.nodeName).
func cluster(nodes []*corev1.Node, pods ...*corev1.Pod) *framework.Snapshot {
	infos, byName := make([]*framework.NodeInfo, 0, len(nodes)), map[string]*framework.NodeInfo{}
	for _, n := range nodes {
		info := &framework.NodeInfo{}
		info.SetNode(n)
		infos, byName[n.Name] = append(infos, info), info
	}
	for _, p := range pods {
		byName[p.Spec.NodeName].AddPod(framework.NewPodInfo(p))
	}
	return framework.NewSnapshot(infos...)
}

// verdicts runs the phases of all plugins up to Filter and returns, for each
// node, "" or the reasons.
func verdicts(t *testing.T, c Config, pod *corev1.Pod, s *framework.Snapshot) string {
	t.Helper()
	runner, state, info := framework.NewRunner(Registry(c)), &framework.CycleState{}, framework.NewPodInfo(pod)
	only, _, status := runner.PreFilter(t.Context(), state, info, s)
	if !status.IsSuccess() {
		return "all: " + status.Message()
	}
	var all []string
	for _, n := range s.Nodes {
		if only != nil && !only.Has(n.Name()) {
			all = append(all, n.Name()+": not named")
			continue
		}
		if status := runner.Filter(t.Context(), state, info, n); !status.IsSuccess() {
			text := n.Name() + ": " + status.Message()
			if status.Code() == framework.Unresolvable {
				text += " (hopeless)"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := testkit.Node(name, "4", "4Gi", 10)
	for _, c := range change {
		c(n)
	}
	return n
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func zone(value string) func(*corev1.Node) { return label(corev1.LabelTopologyZone, value) }

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func tolerating(key string) testkit.PodOption {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

func hostPort(ip string, port int32, protocol corev1.Protocol) testkit.PodOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{HostIP: ip, HostPort: port, Protocol: protocol})
	}
}

func selecting(key, value string) testkit.PodOption {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func nodeTerms(terms ...corev1.NodeSelectorTerm) testkit.PodOption {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
	}
}

func named(names ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: names}}}
}

func extended(name string, n int64) testkit.PodOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceName(name): *quantity(n)}
	}
}

func TestNodeFilters(t *testing.T) {
	cases := map[string]struct {
		nodes   []*corev1.Node
		running []*corev1.Pod
		pod     *corev1.Pod
		want    string
	}{
		"anything goes":               {nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p")},
		"cordoned":                    {nodes: []*corev1.Node{node("n", cordoned)}, pod: testkit.Pod("a", "p"), want: "n: node(s) were unschedulable (hopeless)"},
		"cordoned, tolerated":         {nodes: []*corev1.Node{node("n", cordoned)}, pod: testkit.Pod("a", "p", tolerating(corev1.TaintNodeUnschedulable))},
		"node name":                   {nodes: []*corev1.Node{node("n"), node("m")}, pod: testkit.Pod("a", "p", testkit.OnNode("m")), want: "n: node(s) didn't match the requested node name (hopeless)"},
		"tainted":                     {nodes: []*corev1.Node{node("n", taint("k", corev1.TaintEffectNoSchedule)), node("m", taint("k", corev1.TaintEffectPreferNoSchedule))}, pod: testkit.Pod("a", "p"), want: "n: node(s) had untolerated taint(s) (hopeless)"},
		"taint tolerated":             {nodes: []*corev1.Node{node("n", taint("k", corev1.TaintEffectNoExecute))}, pod: testkit.Pod("a", "p", tolerating("k"))},
		"selector":                    {nodes: []*corev1.Node{node("n"), node("m", label("disk", "ssd"))}, pod: testkit.Pod("a", "p", selecting("disk", "ssd")), want: "n: " + reasonNodeAffinity + " (hopeless)"},
		"terms naming nodes":          {nodes: []*corev1.Node{node("n"), node("m")}, pod: testkit.Pod("a", "p", nodeTerms(named("m"), named("o"))), want: "n: not named"},
		"terms naming different ones": {nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p", nodeTerms(corev1.NodeSelectorTerm{MatchFields: append(named("m").MatchFields, named("n").MatchFields...)})), want: "all: " + reasonNodeAffinity},
		"port taken":                  {nodes: []*corev1.Node{node("n")}, running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), hostPort("", 80, ""))}, pod: testkit.Pod("a", "p", hostPort("10.0.0.1", 80, corev1.ProtocolTCP)), want: "n: node(s) didn't have free ports for the requested pod ports"},
		"port of another protocol":    {nodes: []*corev1.Node{node("n")}, running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), hostPort("", 80, corev1.ProtocolUDP))}, pod: testkit.Pod("a", "p", hostPort("", 80, corev1.ProtocolTCP))},
		"port of another address":     {nodes: []*corev1.Node{node("n")}, running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), hostPort("10.0.0.2", 80, ""))}, pod: testkit.Pod("a", "p", hostPort("10.0.0.1", 80, ""))},
		"room taken":                  {nodes: []*corev1.Node{node("n")}, running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), testkit.WithRequests("3", "1Gi"))}, pod: testkit.Pod("a", "p", testkit.WithRequests("2", "1Gi")), want: "n: Insufficient cpu"},
		"too small for ever":          {nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p", testkit.WithRequests("5", "5Gi")), want: "n: Insufficient cpu, Insufficient memory (hopeless)"},
		"unknown device":              {nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p", extended("example.com/gpu", 1)), want: "n: Insufficient example.com/gpu (hopeless)"},
		"too many pods":               {nodes: []*corev1.Node{testkit.Node("n", "4", "4Gi", 1)}, running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"))}, pod: testkit.Pod("a", "p"), want: "n: Too many pods"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := verdicts(t, Config{}, c.pod, cluster(c.nodes, c.running...)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// scores runs one plugin's scoring phases.
func scores(t *testing.T, p framework.Plugin, pod *corev1.Pod, s *framework.Snapshot) string {
	t.Helper()
	runner, state := framework.NewRunner([]framework.Weighted{{Plugin: p}}), &framework.CycleState{Snapshot: s}
	total, status := runner.Score(t.Context(), state, framework.NewPodInfo(pod), s.Nodes)
	if !status.IsSuccess() {
		t.Fatal(status.Message())
	}
	var all []string
	for _, one := range total {
		all = append(all, fmt.Sprintf("%s %d", one.Node, one.Score))
	}
	return strings.Join(all, ", ")
}

func image(name string, bytes int64) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: bytes})
	}
}

func TestScores(t *testing.T) {
	web := testkit.WithLabels("app", "web")
	cases := map[string]struct {
		plugin  framework.Plugin
		nodes   []*corev1.Node
		running []*corev1.Pod
		pod     *corev1.Pod
		want    string
	}{
		"least allocated": {
			plugin: NewNodeResourcesFit(), nodes: []*corev1.Node{node("n"), node("m")},
			running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), testkit.WithRequests("2", "2Gi"))},
			pod:     testkit.Pod("a", "p", testkit.WithRequests("1", "1Gi")), want: "n 25, m 75",
		},
		"balanced": {
			plugin: NewBalancedAllocation(), nodes: []*corev1.Node{node("n"), node("m")},
			running: []*corev1.Pod{testkit.Pod("a", "x", testkit.OnNode("n"), testkit.WithRequests("2", ""))},
			pod:     testkit.Pod("a", "p", testkit.WithRequests("1", "1Gi")), want: "n 75, m 100",
		},
		"balanced skips best effort": {plugin: NewBalancedAllocation(), nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p"), want: "n 0"},
		"soft taints":                {plugin: NewTaintToleration(), nodes: []*corev1.Node{node("n", taint("k", corev1.TaintEffectPreferNoSchedule)), node("m")}, pod: testkit.Pod("a", "p"), want: "n 0, m 100"},
		"image there":                {plugin: NewImageLocality(), nodes: []*corev1.Node{node("n", image("registry.example/main:1", 1000<<20)), node("m")}, pod: testkit.Pod("a", "p"), want: "n 48, m 0"},
		"soft spread over zones": {
			plugin: NewPodTopologySpread(nil), nodes: []*corev1.Node{node("n", zone("a")), node("m", zone("b")), node("o")},
			running: []*corev1.Pod{testkit.Pod("a", "x", web, testkit.OnNode("n")), testkit.Pod("a", "y", web, testkit.OnNode("n"))},
			pod:     testkit.Pod("a", "p", web, spreading(corev1.LabelTopologyZone, 1, corev1.ScheduleAnyway)), want: "n 0, m 100, o 0",
		},
		"default spread": {
			plugin: NewPodTopologySpread(siblings("app=web")), nodes: []*corev1.Node{node("n"), node("m")},
			running: []*corev1.Pod{testkit.Pod("a", "x", web, testkit.OnNode("n")), testkit.Pod("b", "y", web, testkit.OnNode("m"))},
			pod:     testkit.Pod("a", "p", web), want: "n 66, m 100",
		},
		"no siblings": {plugin: NewPodTopologySpread(siblings("")), nodes: []*corev1.Node{node("n")}, pod: testkit.Pod("a", "p", web), want: "n 0"},
		"preferred affinity": {
			plugin: NewInterPodAffinity(nil), nodes: []*corev1.Node{node("n"), node("m")},
			running: []*corev1.Pod{testkit.Pod("a", "x", web, testkit.OnNode("n"))},
			pod:     testkit.Pod("a", "p", preferring("app=web", 10, false)), want: "n 100, m 0",
		},
		"preferred anti-affinity of a running pod": {
			plugin: NewInterPodAffinity(nil), nodes: []*corev1.Node{node("n"), node("m")},
			running: []*corev1.Pod{testkit.Pod("a", "x", preferring("app=web", 10, true), testkit.OnNode("n"))},
			pod:     testkit.Pod("a", "p", web), want: "n 0, m 100",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := scores(t, c.plugin, c.pod, cluster(c.nodes, c.running...)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

type siblings string

func (s siblings) SelectorOf(*corev1.Pod) labels.Selector {
	selector, err := labels.Parse(string(s))
	if err != nil {
		panic(err)
	}
	return selector
}

func selector(text string) *metav1.LabelSelector {
	s, err := metav1.ParseToLabelSelector(text)
	if err != nil {
		panic(err)
	}
	return s
}

func spreading(key string, skew int32, kind corev1.UnsatisfiableConstraintAction, change ...func(*corev1.TopologySpreadConstraint)) testkit.PodOption {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: skew, WhenUnsatisfiable: kind, LabelSelector: selector("app=web")}
		for _, f := range change {
			f(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity = &corev1.PodAffinity{}, &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

func preferring(text string, weight int32, anti bool) testkit.PodOption {
	return func(p *corev1.Pod) {
		term := corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: selector(text)}}
		a := affinity(p)
		if anti {
			a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, term)
		} else {
			a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, term)
		}
	}
}

func requiring(key, text string, anti bool, change ...func(*corev1.PodAffinityTerm)) testkit.PodOption {
	return func(p *corev1.Pod) {
		term := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: selector(text)}
		for _, f := range change {
			f(&term)
		}
		a := affinity(p)
		if anti {
			a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term)
		} else {
			a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, term)
		}
	}
}

func TestSpreadFilter(t *testing.T) {
	web := func(name, node string) *corev1.Pod {
		return testkit.Pod("a", name, testkit.WithLabels("app", "web"), testkit.OnNode(node))
	}
	mine := testkit.WithLabels("app", "web", "rev", "2")
	zones := []*corev1.Node{node("a1", zone("a")), node("b1", zone("b"))}
	hard := func(change ...func(*corev1.TopologySpreadConstraint)) testkit.PodOption {
		return spreading(corev1.LabelTopologyZone, 1, corev1.DoNotSchedule, change...)
	}
	full := "a1: " + reasonSpread
	cases := map[string]struct {
		nodes   []*corev1.Node
		running []*corev1.Pod
		pod     *corev1.Pod
		want    string
	}{
		"even":             {nodes: zones, running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard())},
		"skewed":           {nodes: zones, running: []*corev1.Pod{web("x", "a1")}, pod: testkit.Pod("a", "p", mine, hard()), want: full},
		"others count not": {nodes: zones, running: []*corev1.Pod{testkit.Pod("b", "x", mine, testkit.OnNode("a1"))}, pod: testkit.Pod("a", "p", mine, hard())},
		"not one of them":  {nodes: zones, running: []*corev1.Pod{web("x", "a1")}, pod: testkit.Pod("a", "p", hard())},
		"label missing":    {nodes: append([]*corev1.Node{node("c1")}, zones...), pod: testkit.Pod("a", "p", mine, hard()), want: "c1: " + reasonSpreadLabel + " (hopeless)"},
		"too few domains":  {nodes: zones, running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard(func(c *corev1.TopologySpreadConstraint) { c.MinDomains = ptr.To[int32](3) })), want: full + "; b1: " + reasonSpread},
		"by revision":      {nodes: zones, running: []*corev1.Pod{web("x", "a1")}, pod: testkit.Pod("a", "p", mine, hard(func(c *corev1.TopologySpreadConstraint) { c.MatchLabelKeys = []string{"rev"} }))},
		"selected out":     {nodes: append(zones, node("c1", zone("c"), label("disk", "hdd"))), running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard(), nodeTerms(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist}}})), want: "c1: " + reasonNodeAffinity + " (hopeless)"},
		"selection ignored": {nodes: append(zones, node("c1", zone("c"), label("disk", "hdd"))), running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard(func(c *corev1.TopologySpreadConstraint) {
			c.NodeAffinityPolicy = ptr.To(corev1.NodeInclusionPolicyIgnore)
		}), nodeTerms(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist}}})), want: full + "; b1: " + reasonSpread + "; c1: " + reasonNodeAffinity + " (hopeless)"},
		"tainted counts":   {nodes: append(zones, node("c1", zone("c"), taint("k", corev1.TaintEffectNoSchedule))), running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard()), want: full + "; b1: " + reasonSpread + "; c1: node(s) had untolerated taint(s) (hopeless)"},
		"tainted left out": {nodes: append(zones, node("c1", zone("c"), taint("k", corev1.TaintEffectNoSchedule))), running: []*corev1.Pod{web("x", "a1"), web("y", "b1")}, pod: testkit.Pod("a", "p", mine, hard(func(c *corev1.TopologySpreadConstraint) { c.NodeTaintsPolicy = ptr.To(corev1.NodeInclusionPolicyHonor) })), want: "c1: node(s) had untolerated taint(s) (hopeless)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := cluster(c.nodes, c.running...)
			s.Nodes = sorted(s.Nodes)
			got := verdicts(t, Config{}, c.pod, s)
			if name == "label missing" {
				got = strings.Split(got, "; ")[0] // c1 comes last
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestPodAffinityFilter(t *testing.T) {
	db := testkit.Pod("a", "db", testkit.WithLabels("app", "db"), testkit.OnNode("a1"))
	nodes := []*corev1.Node{node("a1", zone("a")), node("a2", zone("a")), node("b1", zone("b")), node("c1")}
	const z = corev1.LabelTopologyZone
	web := testkit.WithLabels("app", "web")
	namespaces := func(string) labels.Set { return labels.Set{"team": "x"} }
	cases := map[string]struct {
		running []*corev1.Pod
		pod     *corev1.Pod
		want    string
	}{
		"with db":            {running: []*corev1.Pod{db}, pod: testkit.Pod("a", "p", requiring(z, "app=db", false)), want: "b1: " + reasonAffinity + " (hopeless); c1: " + reasonAffinity + " (hopeless)"},
		"other namespace":    {running: []*corev1.Pod{db}, pod: testkit.Pod("b", "p", requiring(z, "app=db", true))},
		"named namespace":    {running: []*corev1.Pod{db}, pod: testkit.Pod("b", "p", requiring(z, "app=db", true, func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"a"} })), want: "a1: " + reasonAntiAffinity + "; a2: " + reasonAntiAffinity},
		"selected namespace": {running: []*corev1.Pod{db}, pod: testkit.Pod("b", "p", requiring(z, "app=db", true, func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = selector("team=x") })), want: "a1: " + reasonAntiAffinity + "; a2: " + reasonAntiAffinity},
		"every namespace":    {running: []*corev1.Pod{db}, pod: testkit.Pod("b", "p", requiring(z, "app=db", true, func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{} })), want: "a1: " + reasonAntiAffinity + "; a2: " + reasonAntiAffinity},
		"away from db":       {running: []*corev1.Pod{db}, pod: testkit.Pod("a", "p", requiring(corev1.LabelHostname, "app=db", true)), want: "a1: " + reasonAntiAffinity},
		"db wants no web":    {running: []*corev1.Pod{testkit.Pod("a", "db", testkit.OnNode("a1"), requiring(z, "app=web", true))}, pod: testkit.Pod("a", "p", web), want: "a1: " + reasonExistingAnti + "; a2: " + reasonExistingAnti},
		"first of its kind":  {running: []*corev1.Pod{db}, pod: testkit.Pod("a", "p", web, requiring(z, "app=web", false)), want: "c1: " + reasonAffinity + " (hopeless)"},
		"nobody to be with":  {running: []*corev1.Pod{db}, pod: testkit.Pod("a", "p", requiring(z, "app=web", false)), want: "a1: " + reasonAffinity + " (hopeless); a2: " + reasonAffinity + " (hopeless); b1: " + reasonAffinity + " (hopeless); c1: " + reasonAffinity + " (hopeless)"},
		"mismatched label":   {running: []*corev1.Pod{testkit.Pod("a", "x", testkit.WithLabels("app", "web", "tenant", "1"), testkit.OnNode("a1"))}, pod: testkit.Pod("a", "p", testkit.WithLabels("tenant", "1"), requiring(z, "app=web", true, func(t *corev1.PodAffinityTerm) { t.MismatchLabelKeys = []string{"tenant"} }))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := verdicts(t, Config{NamespaceLabels: namespaces}, c.pod, cluster(nodes, c.running...)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestTrying: AddPod and RemovePod change the state as if the snapshot had
// changed.
func TestTrying(t *testing.T) {
	nodes := []*corev1.Node{node("a1", zone("a")), node("b1", zone("b"))}
	web := testkit.WithLabels("app", "web")
	running := []*corev1.Pod{
		testkit.Pod("a", "x", web, testkit.OnNode("a1")), testkit.Pod("a", "y", web, testkit.OnNode("a1")),
		testkit.Pod("a", "z", requiring(corev1.LabelTopologyZone, "app=web", true), testkit.OnNode("b1")),
	}
	pods := map[string]*corev1.Pod{
		"spread":        testkit.Pod("a", "p", web, spreading(corev1.LabelTopologyZone, 1, corev1.DoNotSchedule)),
		"affinity":      testkit.Pod("a", "p", requiring(corev1.LabelTopologyZone, "app=web", false)),
		"anti-affinity": testkit.Pod("a", "p", web, requiring(corev1.LabelTopologyZone, "app=web", true)),
	}
	for name, pod := range pods {
		for drop, dropped := range running {
			t.Run(name+" without "+dropped.Name, func(t *testing.T) {
				runner, info := framework.NewRunner(Registry(Config{})), framework.NewPodInfo(pod)
				s := cluster(nodes, running...)
				base := &framework.CycleState{}
				if _, _, status := runner.PreFilter(t.Context(), base, info, s); !status.IsSuccess() {
					t.Fatal(status.Message())
				}
				tried := base.Clone()
				there := s.ByName[dropped.Spec.NodeName].Clone()
				there.RemovePod(dropped.UID)
				if status := runner.RemovePod(tried, info, framework.NewPodInfo(dropped), there); !status.IsSuccess() {
					t.Fatal(status.Message())
				}
				rest := append(append([]*corev1.Pod{}, running[:drop]...), running[drop+1:]...)
				fresh, real := cluster(nodes, rest...), &framework.CycleState{}
				if _, _, status := runner.PreFilter(t.Context(), real, info, fresh); !status.IsSuccess() {
					t.Fatal(status.Message())
				}
				for _, n := range fresh.Nodes {
					want, got := runner.Filter(t.Context(), real, info, n), runner.Filter(t.Context(), tried, info, n)
					if want.Message() != got.Message() {
						t.Errorf("%s: tried %q, real %q", n.Name(), got.Message(), want.Message())
					}
				}
				back := tried.Clone()
				runner.AddPod(back, info, framework.NewPodInfo(dropped), there)
				for _, n := range s.Nodes {
					want, got := runner.Filter(t.Context(), base, info, n), runner.Filter(t.Context(), back, info, n)
					if want.Message() != got.Message() {
						t.Errorf("%s: put back %q, before %q", n.Name(), got.Message(), want.Message())
					}
				}
			})
		}
	}
}

func TestSchedulingGates(t *testing.T) {
	pod := testkit.Pod("a", "p")
	if s := NewSchedulingGates().PreEnqueue(pod); !s.IsSuccess() {
		t.Errorf("without gates: %s", s.Message())
	}
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x"}, {Name: "y"}}
	if s := NewSchedulingGates().PreEnqueue(pod); s.Message() != "waiting for scheduling gates: [x y]" {
		t.Errorf("with gates: %q", s.Message())
	}
}

func TestWakes(t *testing.T) {
	big := testkit.Pod("a", "p", testkit.WithRequests("3", "1Gi"), testkit.WithLabels("app", "web"), hostPort("", 80, ""), selecting("disk", "ssd"),
		spreading(corev1.LabelTopologyZone, 1, corev1.DoNotSchedule), requiring(corev1.LabelTopologyZone, "app=db", false))
	cases := []struct {
		plugin   string
		event    framework.ClusterEvent
		old, new any
		want     bool
	}{
		{"NodeResourcesFit", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add}, nil, node("n"), true},
		{"NodeResourcesFit", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add}, nil, testkit.Node("n", "1", "1Gi", 10), false},
		{"NodeResourcesFit", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.UpdateLabel}, node("n"), node("n"), false},
		{"NodeResourcesFit", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete}, testkit.Pod("a", "x"), nil, true},
		{"NodePorts", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete}, testkit.Pod("a", "x", hostPort("", 80, "")), nil, true},
		{"NodePorts", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete}, testkit.Pod("a", "x"), nil, false},
		{"NodeAffinity", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.UpdateLabel}, node("n"), node("n", label("disk", "ssd")), true},
		{"NodeAffinity", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.UpdateLabel}, node("n"), node("n"), false},
		{"TaintToleration", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.UpdateTaint}, node("n"), node("n", taint("k", corev1.TaintEffectNoSchedule)), false},
		{"NodeUnschedulable", framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.UpdateTaint}, node("n", cordoned), node("n"), true},
		{"PodTopologySpread", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete}, testkit.Pod("a", "x", testkit.WithLabels("app", "web")), nil, true},
		{"PodTopologySpread", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete}, testkit.Pod("b", "x", testkit.WithLabels("app", "web")), nil, false},
		{"InterPodAffinity", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add}, nil, testkit.Pod("a", "x", testkit.WithLabels("app", "db")), true},
		{"InterPodAffinity", framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add}, nil, testkit.Pod("a", "x", testkit.WithLabels("app", "x")), false},
	}
	runner := framework.NewRunner(Registry(Config{}))
	for _, c := range cases {
		got := false
		for _, w := range runner.Wakes(c.plugin) {
			got = got || w.Event.Matches(c.event) && (w.Helps == nil || w.Helps(big, c.old, c.new))
		}
		if got != c.want {
			t.Errorf("%s: woken by %+v (%v → %v): %v, want %v", c.plugin, c.event, c.old != nil, c.new != nil, got, c.want)
		}
	}
}

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }

func sorted(nodes []*framework.NodeInfo) []*framework.NodeInfo {
	return slices.SortedFunc(slices.Values(nodes), func(a, b *framework.NodeInfo) int {
		// Nodes without a zone first.
		return cmp.Compare(a.Node.Labels[corev1.LabelTopologyZone], b.Node.Labels[corev1.LabelTopologyZone])
	})
}
