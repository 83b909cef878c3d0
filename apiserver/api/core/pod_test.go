package core

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDeleteGrace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		node      string
		phase     corev1.PodPhase
		spec      *int64
		requested *int64
		seconds   int64
	}{
		"as the spec says":    {"n", corev1.PodRunning, ptr.To[int64](30), nil, 30},
		"as requested":        {"n", corev1.PodRunning, ptr.To[int64](30), ptr.To[int64](5), 5},
		"at once":             {"n", corev1.PodRunning, ptr.To[int64](30), ptr.To[int64](0), 0},
		"not scheduled":       {"", corev1.PodPending, ptr.To[int64](30), nil, 0},
		"finished":            {"n", corev1.PodSucceeded, ptr.To[int64](30), ptr.To[int64](5), 0},
		"failed":              {"n", corev1.PodFailed, ptr.To[int64](30), nil, 0},
		"negative is one":     {"n", corev1.PodRunning, ptr.To[int64](-3), nil, 1},
		"nothing said at all": {"n", corev1.PodRunning, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: test.node, TerminationGracePeriodSeconds: test.spec}, Status: corev1.PodStatus{Phase: test.phase}}
			seconds, graceful := podDeleteGrace(p, test.requested)
			if seconds != test.seconds || !graceful {
				t.Errorf("%d, %v; want %d, true", seconds, graceful, test.seconds)
			}
		})
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	binding := func(kind, name string) *corev1.Binding {
		return &corev1.Binding{Target: corev1.ObjectReference{Kind: kind, Name: name}}
	}
	for name, test := range map[string]struct {
		change  func(*corev1.Pod)
		binding *corev1.Binding
		code    func(error) bool
		text    string
	}{
		"bound":         {func(*corev1.Pod) {}, binding("Node", "n"), nil, ""},
		"empty kind":    {func(*corev1.Pod) {}, binding("", "n"), nil, ""},
		"other kind":    {func(*corev1.Pod) {}, binding("Pod", "n"), apierrors.IsInvalid, "target.kind"},
		"no name":       {func(*corev1.Pod) {}, binding("Node", ""), apierrors.IsInvalid, "target.name"},
		"already bound": {func(p *corev1.Pod) { p.Spec.NodeName = "m" }, binding("Node", "n"), apierrors.IsConflict, `pod p is already assigned to node "m"`},
		"deleting":      {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, binding("Node", "n"), apierrors.IsConflict, "is being deleted"},
		"gated":         {func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, binding("Node", "n"), apierrors.IsConflict, "schedulingGates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 1}, Status: corev1.PodStatus{NominatedNodeName: "x"}}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Unix(1, 0))}}
			test.change(p)
			err := bindPod(p, test.binding)
			if test.code == nil {
				if err != nil {
					t.Fatal(err)
				}
				c := podCondition(p, corev1.PodScheduled)
				if p.Spec.NodeName != "n" || c == nil || c.Status != corev1.ConditionTrue || c.LastTransitionTime.Unix() == 1 || p.Status.NominatedNodeName != "" || p.Generation != 1 {
					t.Errorf("not bound: %+v", p)
				}
				return
			}
			if !test.code(err) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestStatusKeepsSpec(t *testing.T) {
	t.Parallel()
	old := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{QOSClass: corev1.PodQOSBurstable}}
	old.Generation = 3
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "m"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	updatePodStatus(p, old)
	if p.Spec.NodeName != "n" || p.Status.Phase != corev1.PodRunning || p.Status.QOSClass != corev1.PodQOSBurstable || p.Generation != 3 {
		t.Errorf("got %+v", p)
	}
}

func TestTerminatedContainersStayTerminated(t *testing.T) {
	t.Parallel()
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 0}}
	old := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}}
	old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: ended}}
	p := old.DeepCopy()
	if errs := validatePodStatus(p, old); len(errs) > 0 {
		t.Error(errs)
	}
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	if errs := validatePodStatus(p, old); len(errs) != 1 || errs[0].Field != "status.containerStatuses[0].state" {
		t.Error(errs)
	}
}

func TestNamespaceEnds(t *testing.T) {
	t.Parallel()
	d := Namespace()
	ns := &corev1.Namespace{}
	ns.Name = "n"
	d.PrepareCreate(ns)
	if ns.Status.Phase != corev1.NamespaceActive || d.ReadyToDelete(ns) {
		t.Fatalf("new namespace %+v", ns)
	}
	now := metav1.Now()
	ns.DeletionTimestamp = &now
	d.BeginDelete(ns)
	if ns.Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("phase %s", ns.Status.Phase)
	}
	if err := setNamespaceFinalizers(ns, &corev1.Namespace{}); err != nil || !d.ReadyToDelete(ns) {
		t.Fatalf("finalized: %v, %+v", err, ns)
	}
}
