package handler_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
)

var formats = []string{"application/json", "application/vnd.kubernetes.protobuf", "application/cbor"}

func cm(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}, Data: data}
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func eachFormat(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	for _, format := range formats {
		t.Run(format, func(t *testing.T) { test(t, start(t, format)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateGetUpdateDelete(t *testing.T) {
	eachFormat(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		maps := f.client.CoreV1().ConfigMaps("default")
		created, err := maps.Create(ctx, cm("a", map[string]string{"k": "v"}), metav1.CreateOptions{})
		must(t, err)
		if created.UID == "" || created.CreationTimestamp.IsZero() || created.ResourceVersion == "" || created.Namespace != "default" {
			t.Errorf("metadata not filled: %+v", created.ObjectMeta)
		}
		if len(created.ManagedFields) != 1 || created.ManagedFields[0].Operation != metav1.ManagedFieldsOperationUpdate {
			t.Errorf("managed fields = %v", created.ManagedFields)
		}
		if _, err := maps.Create(ctx, cm("a", nil), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) || err.Error() != `configmaps "a" already exists` {
			t.Errorf("second create: %v", err)
		}
		got, err := maps.Get(ctx, "a", metav1.GetOptions{})
		must(t, err)
		if got.Data["k"] != "v" || got.UID != created.UID {
			t.Errorf("got %+v", got)
		}
		got.Data["k"] = "w"
		updated, err := maps.Update(ctx, got, metav1.UpdateOptions{})
		must(t, err)
		if updated.ResourceVersion == got.ResourceVersion || updated.Data["k"] != "w" {
			t.Errorf("updated %+v", updated)
		}
		again, err := maps.Update(ctx, updated.DeepCopy(), metav1.UpdateOptions{})
		must(t, err)
		if again.ResourceVersion != updated.ResourceVersion {
			t.Error("an update without a change was written")
		}
		_, err = maps.Update(ctx, got, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) || !strings.HasPrefix(err.Error(), `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply`) {
			t.Errorf("stale update: %v", err)
		}
		must(t, maps.Delete(ctx, "a", metav1.DeleteOptions{}))
		if _, err := maps.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) || err.Error() != `configmaps "a" not found` {
			t.Errorf("after delete: %v", err)
		}
	})
}

func TestErrors(t *testing.T) {
	f := start(t, "application/json")
	ctx := t.Context()
	maps := f.client.CoreV1().ConfigMaps("default")
	tests := []struct {
		name, want string
		is         func(error) bool
		do         func() error
	}{
		{"invalid name", `ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b"`, apierrors.IsInvalid, func() error {
			_, err := maps.Create(ctx, cm("A_b", nil), metav1.CreateOptions{})
			return err
		}},
		{"no name", `ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required`, apierrors.IsInvalid, func() error {
			_, err := maps.Create(ctx, cm("", nil), metav1.CreateOptions{})
			return err
		}},
		{"kind's validation", `ConfigMap "x" is invalid: data.bad: Invalid value: "x": must be empty`, apierrors.IsInvalid, func() error {
			_, err := maps.Create(ctx, cm("x", map[string]string{"bad": "1"}), metav1.CreateOptions{})
			return err
		}},
		{"namespace mismatch", "the namespace of the provided object does not match the namespace sent on the request", apierrors.IsBadRequest, func() error {
			c := cm("x", nil)
			c.Namespace = "other"
			_, err := maps.Create(ctx, c, metav1.CreateOptions{})
			return err
		}},
		{"forbidden", `configmaps is forbidden: User "tester" cannot list resource "configmaps" in API group "" in the namespace "forbidden"`, apierrors.IsForbidden, func() error {
			_, err := f.client.CoreV1().ConfigMaps("forbidden").List(ctx, metav1.ListOptions{})
			return err
		}},
		{"unknown field label", "field label not supported: spec.foo", apierrors.IsBadRequest, func() error {
			_, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "spec.foo=1"})
			return err
		}},
		{"strict", `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo"`, apierrors.IsBadRequest, func() error {
			return f.client.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/configmaps").Param("fieldValidation", "Strict").
				Body([]byte(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"s"},"foo":1}`)).SetHeader("Content-Type", "application/json").Do(ctx).Error()
		}},
		{"bad dry run", "dryRun", apierrors.IsInvalid, func() error {
			_, err := maps.Create(ctx, cm("x", nil), metav1.CreateOptions{DryRun: []string{"Some"}})
			return err
		}},
		{"delete precondition", "Precondition failed: UID in precondition: wrong", apierrors.IsConflict, func() error {
			if _, err := maps.Create(ctx, cm("p", nil), metav1.CreateOptions{}); err != nil {
				return err
			}
			uid := types.UID("wrong")
			return maps.Delete(ctx, "p", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.do()
			if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
		})
	}
}

func TestListPagesAndSelectors(t *testing.T) {
	eachFormat(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		maps := f.client.CoreV1().ConfigMaps("default")
		for _, name := range []string{"a", "b", "c"} {
			_, err := maps.Create(ctx, cm(name, map[string]string{"n": name}), metav1.CreateOptions{})
			must(t, err)
		}
		page, err := maps.List(ctx, metav1.ListOptions{Limit: 2})
		must(t, err)
		if len(page.Items) != 2 || page.Continue == "" || *page.RemainingItemCount != 1 || page.Items[1].Data["n"] != "b" {
			t.Fatalf("first page: %+v", page)
		}
		rest, err := maps.List(ctx, metav1.ListOptions{Limit: 2, Continue: page.Continue})
		must(t, err)
		if len(rest.Items) != 1 || rest.Items[0].Name != "c" || rest.Continue != "" {
			t.Fatalf("second page: %+v", rest)
		}
		for selector, want := range map[metav1.ListOptions]int{
			{LabelSelector: "name in (a,c)"}: 2, {FieldSelector: "metadata.name=b"}: 1, {LabelSelector: "x"}: 0,
		} {
			list, err := f.client.CoreV1().ConfigMaps("").List(ctx, selector)
			must(t, err)
			if len(list.Items) != want {
				t.Errorf("%+v: %d items", selector, len(list.Items))
			}
		}
		must(t, maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "name!=b"}))
		list, err := maps.List(ctx, metav1.ListOptions{})
		must(t, err)
		if len(list.Items) != 1 || list.Items[0].Name != "b" {
			t.Errorf("after deletecollection: %+v", list.Items)
		}
	})
}

func next(t *testing.T, w watch.Interface, want watch.EventType, name string) metav1.Object {
	t.Helper()
	ev, ok := <-w.ResultChan()
	if !ok {
		t.Fatal("watch ended")
	}
	obj, isObject := ev.Object.(metav1.Object)
	if ev.Type != want || !isObject || obj.GetName() != name {
		t.Fatalf("event %s %+v, want %s %s", ev.Type, ev.Object, want, name)
	}
	return obj
}

func TestWatch(t *testing.T) {
	eachFormat(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		maps := f.client.CoreV1().ConfigMaps("default")
		first, err := maps.Create(ctx, cm("a", nil), metav1.CreateOptions{})
		must(t, err)
		w, err := maps.Watch(ctx, metav1.ListOptions{})
		must(t, err)
		defer w.Stop()
		next(t, w, watch.Added, "a")
		labelled, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "on", ResourceVersion: first.ResourceVersion})
		must(t, err)
		defer labelled.Stop()
		yes := true
		streamed, err := maps.Watch(ctx, metav1.ListOptions{
			SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		})
		must(t, err)
		defer streamed.Stop()
		next(t, streamed, watch.Added, "a")
		mark := next(t, streamed, watch.Bookmark, "")
		if mark.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
			t.Errorf("bookmark %+v", mark)
		}
		patch := func(body string) {
			_, err := maps.Patch(ctx, "a", types.MergePatchType, []byte(body), metav1.PatchOptions{})
			must(t, err)
		}
		patch(`{"metadata":{"labels":{"on":"1"}}}`)
		next(t, w, watch.Modified, "a")
		next(t, streamed, watch.Modified, "a")
		next(t, labelled, watch.Added, "a")
		patch(`{"metadata":{"labels":{"on":null}}}`)
		changed := next(t, w, watch.Modified, "a")
		gone := next(t, labelled, watch.Deleted, "a")
		if gone.GetResourceVersion() != changed.GetResourceVersion() || gone.GetLabels()["on"] != "1" {
			t.Errorf("left selection: %+v", gone)
		}
		must(t, maps.Delete(ctx, "a", metav1.DeleteOptions{}))
		next(t, w, watch.Deleted, "a")
	})
}

func TestGracefulDeletionAndFinalizers(t *testing.T) {
	f := start(t, "application/json")
	ctx := t.Context()
	pods := f.client.CoreV1().Pods("default")
	p := pod("p", "n1")
	p.Finalizers = []string{"example.com/hold"}
	_, err := pods.Create(ctx, p, metav1.CreateOptions{})
	must(t, err)
	must(t, pods.Delete(ctx, "p", metav1.DeleteOptions{}))
	got, err := pods.Get(ctx, "p", metav1.GetOptions{})
	must(t, err)
	if got.DeletionTimestamp == nil || *got.DeletionGracePeriodSeconds != 30 || got.Generation != 2 {
		t.Fatalf("marked %+v", got.ObjectMeta)
	}
	must(t, pods.Delete(ctx, "p", *metav1.NewDeleteOptions(0)))
	got, err = pods.Get(ctx, "p", metav1.GetOptions{})
	must(t, err)
	if *got.DeletionGracePeriodSeconds != 0 {
		t.Fatalf("shortened %+v", got.ObjectMeta)
	}
	_, err = pods.Patch(ctx, "p", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{})
	must(t, err)
	if _, err := pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last finalizer: %v", err)
	}
	_, err = pods.Create(ctx, pod("q", ""), metav1.CreateOptions{})
	must(t, err)
	orphan := metav1.DeletePropagationOrphan
	must(t, pods.Delete(ctx, "q", metav1.DeleteOptions{PropagationPolicy: &orphan, GracePeriodSeconds: new(int64)}))
	got, err = pods.Get(ctx, "q", metav1.GetOptions{})
	must(t, err)
	if len(got.Finalizers) != 1 || got.Finalizers[0] != metav1.FinalizerOrphanDependents {
		t.Errorf("finalizers %v", got.Finalizers)
	}
}

func TestStatusAndStrategicPatch(t *testing.T) {
	f := start(t, "application/json")
	ctx := t.Context()
	pods := f.client.CoreV1().Pods("default")
	created, err := pods.Create(ctx, pod("p", "n1"), metav1.CreateOptions{})
	must(t, err)
	created.Status.Phase = corev1.PodRunning
	created.Spec.NodeName = "ignored"
	got, err := pods.UpdateStatus(ctx, created, metav1.UpdateOptions{})
	must(t, err)
	if got.Status.Phase != corev1.PodRunning || got.Spec.NodeName != "n1" || got.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Fatalf("status update: %+v", got)
	}
	got, err = pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(
		`{"spec":{"containers":[{"name":"d","image":"j"}]}}`), metav1.PatchOptions{})
	must(t, err)
	if len(got.Spec.Containers) != 2 {
		t.Errorf("containers not merged: %+v", got.Spec.Containers)
	}
	got, err = pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"status":{"reason":"r"}}`), metav1.PatchOptions{}, "status")
	must(t, err)
	if got.Status.Reason != "r" || got.Status.Phase != corev1.PodRunning {
		t.Errorf("status patch: %+v", got.Status)
	}
}

func TestServerSideApply(t *testing.T) {
	f := start(t, "application/json")
	ctx := t.Context()
	maps := f.client.CoreV1().ConfigMaps("default")
	one := func(v string) *applycorev1.ConfigMapApplyConfiguration {
		return applycorev1.ConfigMap("a", "default").WithData(map[string]string{"k": v})
	}
	got, err := maps.Apply(ctx, one("1"), metav1.ApplyOptions{FieldManager: "first"})
	must(t, err)
	if got.Data["k"] != "1" || len(got.ManagedFields) != 1 || got.ManagedFields[0].Manager != "first" {
		t.Fatalf("applied %+v", got)
	}
	same, err := maps.Apply(ctx, one("1"), metav1.ApplyOptions{FieldManager: "first"})
	must(t, err)
	if same.ResourceVersion != got.ResourceVersion {
		t.Error("an apply without a change was written")
	}
	_, err = maps.Apply(ctx, one("2"), metav1.ApplyOptions{FieldManager: "second"})
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || len(status.Status().Details.Causes) != 1 {
		t.Fatalf("conflict: %v", err)
	}
	got, err = maps.Apply(ctx, one("2"), metav1.ApplyOptions{FieldManager: "second", Force: true})
	must(t, err)
	if got.Data["k"] != "2" {
		t.Errorf("forced %+v", got)
	}
	_, err = maps.Apply(ctx, one("2"), metav1.ApplyOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "fieldManager: Required value: is required for apply patch") {
		t.Errorf("without a manager: %v", err)
	}
}

func TestDryRun(t *testing.T) {
	f := start(t, "application/json")
	ctx := t.Context()
	maps := f.client.CoreV1().ConfigMaps("default")
	dry := []string{metav1.DryRunAll}
	_, err := maps.Create(ctx, cm("a", nil), metav1.CreateOptions{DryRun: dry})
	must(t, err)
	if _, err := maps.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("dry run stored: %v", err)
	}
	created, err := maps.Create(ctx, cm("a", nil), metav1.CreateOptions{})
	must(t, err)
	got, err := maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{DryRun: dry})
	must(t, err)
	if got.Data["k"] != "v" {
		t.Errorf("dry patch answered %+v", got)
	}
	must(t, maps.Delete(ctx, "a", metav1.DeleteOptions{DryRun: dry}))
	still, err := maps.Get(ctx, "a", metav1.GetOptions{})
	must(t, err)
	if still.ResourceVersion != created.ResourceVersion {
		t.Error("a dry run changed the object")
	}
}

func TestGenerateName(t *testing.T) {
	f := start(t, "application/json")
	maps := f.client.CoreV1().ConfigMaps("default")
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}
	got, err := maps.Create(t.Context(), c, metav1.CreateOptions{})
	must(t, err)
	if !strings.HasPrefix(got.Name, "g-") || len(got.Name) != 7 {
		t.Errorf("name %q", got.Name)
	}
}
