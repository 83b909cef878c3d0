package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

func definition(graceful bool) *resource.Definition {
	d := &resource.Definition{
		Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: "pods", Namespaced: true,
		New: func() runtime.Object { return &corev1.Pod{} },
	}
	if graceful {
		d.DeleteGrace = func(_ runtime.Object, requested *int64) (int64, bool) {
			if requested != nil {
				return *requested, true
			}
			return 30, true
		}
	}
	return d
}

func TestCreate(t *testing.T) {
	now := metav1.NewTime(time.Unix(1000, 0))
	id := lifecycle.Identity{UID: types.UID("u"), Now: now, Suffix: "abcde"}
	long := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		GenerateName: strings.Repeat("n", 70), Namespace: "x", ResourceVersion: "7", Generation: 9, DeletionTimestamp: &now,
	}}
	if err := lifecycle.Create(definition(false), long, id); err != nil {
		t.Fatal(err)
	}
	if len(long.Name) != 63 || long.UID != "u" || long.ResourceVersion != "" || long.Generation != 0 || long.DeletionTimestamp != nil {
		t.Errorf("created %+v", long.ObjectMeta)
	}
	err := lifecycle.Create(definition(false), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, id)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.namespace: Required value") {
		t.Errorf("without namespace: %v", err)
	}
}

func TestUpdateKeepsWhatTheServerOwns(t *testing.T) {
	now := metav1.NewTime(time.Unix(1000, 0))
	old := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "a", Namespace: "x", UID: "u", CreationTimestamp: now, Generation: 3, ResourceVersion: "5", DeletionTimestamp: &now,
		DeletionGracePeriodSeconds: new(int64), Finalizers: []string{"example.com/a"},
	}}
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "x", ResourceVersion: "5", Generation: 99, Finalizers: old.Finalizers}}
	if err := lifecycle.Update(definition(true), lifecycle.Changes{}, obj, old); err != nil {
		t.Fatal(err)
	}
	if obj.UID != "u" || obj.Generation != 3 || obj.DeletionTimestamp == nil || !obj.CreationTimestamp.Equal(&now) {
		t.Errorf("updated %+v", obj.ObjectMeta)
	}
	obj.Finalizers = append(obj.Finalizers, "example.com/b")
	if err := lifecycle.Update(definition(true), lifecycle.Changes{}, obj, old); !apierrors.IsInvalid(err) {
		t.Errorf("a finalizer was added to an object under deletion: %v", err)
	}
}

func seconds(n int64) *int64 { return &n }

func TestDelete(t *testing.T) {
	now := metav1.NewTime(time.Unix(1000, 0))
	orphan, foreground, background := metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground, metav1.DeletePropagationBackground
	deleting := func(grace int64) metav1.ObjectMeta {
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
		return metav1.ObjectMeta{Name: "a", Generation: 2, DeletionTimestamp: &at, DeletionGracePeriodSeconds: &grace}
	}
	tests := []struct {
		name       string
		graceful   bool
		object     metav1.ObjectMeta
		options    metav1.DeleteOptions
		want       lifecycle.Outcome
		grace      *int64
		finalizers []string
	}{
		{name: "plain", want: lifecycle.Remove},
		{name: "plain with finalizer", object: metav1.ObjectMeta{Finalizers: []string{"f/a"}}, want: lifecycle.Mark, grace: seconds(0), finalizers: []string{"f/a"}},
		{name: "graceful", graceful: true, want: lifecycle.Mark, grace: seconds(30)},
		{name: "graceful now", graceful: true, options: metav1.DeleteOptions{GracePeriodSeconds: seconds(0)}, want: lifecycle.Remove, grace: seconds(0)},
		{name: "negative is one", graceful: true, options: metav1.DeleteOptions{GracePeriodSeconds: seconds(-5)}, want: lifecycle.Mark, grace: seconds(1)},
		{name: "again", graceful: true, object: deleting(30), want: lifecycle.Pending, grace: seconds(30)},
		{name: "shorter", graceful: true, object: deleting(30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(5)}, want: lifecycle.Mark, grace: seconds(5)},
		{name: "longer", graceful: true, object: deleting(30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(50)}, want: lifecycle.Pending, grace: seconds(30)},
		{name: "kubelet is done", graceful: true, object: deleting(30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(0)}, want: lifecycle.Remove, grace: seconds(0)},
		{name: "orphan", options: metav1.DeleteOptions{PropagationPolicy: &orphan}, want: lifecycle.Mark, grace: seconds(0), finalizers: []string{metav1.FinalizerOrphanDependents}},
		{name: "foreground", options: metav1.DeleteOptions{PropagationPolicy: &foreground}, want: lifecycle.Mark, grace: seconds(0), finalizers: []string{metav1.FinalizerDeleteDependents}},
		{name: "background drops orphan", object: metav1.ObjectMeta{Finalizers: []string{metav1.FinalizerOrphanDependents}}, options: metav1.DeleteOptions{PropagationPolicy: &background}, want: lifecycle.Remove},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			obj := &corev1.Pod{ObjectMeta: test.object}
			if got := lifecycle.Delete(definition(test.graceful), obj, &test.options, now); got != test.want {
				t.Errorf("outcome %d, want %d", got, test.want)
			}
			switch {
			case test.grace == nil && obj.DeletionGracePeriodSeconds == nil:
			case test.grace == nil || obj.DeletionGracePeriodSeconds == nil || *test.grace != *obj.DeletionGracePeriodSeconds:
				t.Errorf("grace %v", obj.DeletionGracePeriodSeconds)
			}
			if strings.Join(obj.Finalizers, ",") != strings.Join(test.finalizers, ",") {
				t.Errorf("finalizers %v", obj.Finalizers)
			}
		})
	}
}
