package status

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "u"},
		Status: corev1.PodStatus{
			Phase: corev1.PodPending,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: "example.com/gate", Status: corev1.ConditionTrue},
			},
		},
	}
}

func running(pod *corev1.Pod) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.Phase, status.PodIP = corev1.PodRunning, "10.0.0.1"
	// What others wrote is as the worker last saw it, which may be old.
	status.Conditions[1].Status = corev1.ConditionFalse
	status.Conditions = append(status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	return status
}

func start(t *testing.T, client *fake.Clientset) *Manager {
	t.Helper()
	m := &Manager{Client: client, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

func patches(client *fake.Clientset) []map[string]any {
	var out []map[string]any
	for _, action := range client.Actions() {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(patch.GetPatch(), &fields) == nil {
			out = append(out, fields)
		}
	}
	return out
}

func TestOnePatchForAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := testPod()
		client := fake.NewClientset(pod)
		m := start(t, client)
		m.Set(pod, running(pod))
		synctest.Wait()
		m.Set(pod, running(pod))
		synctest.Wait()
		got := patches(client)
		if len(got) != 1 {
			t.Fatalf("%d patches: %v", len(got), got)
		}
		if uid := got[0]["metadata"].(map[string]any)["uid"]; uid != "u" {
			t.Errorf("patch names uid %v", uid)
		}
		written, err := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		states := map[corev1.PodConditionType]corev1.ConditionStatus{}
		for _, c := range written.Status.Conditions {
			states[c.Type] = c.Status
		}
		if written.Status.Phase != corev1.PodRunning || states["example.com/gate"] != corev1.ConditionTrue || states[corev1.PodReady] != corev1.ConditionTrue {
			t.Errorf("written: %+v", written.Status)
		}
	})
}

func TestRetriesAndKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := testPod()
		client := fake.NewClientset(pod)
		failures := 3
		client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			if failures > 0 {
				failures--
				return true, nil, errors.New("server is away")
			}
			return false, nil, nil
		})
		m := start(t, client)
		m.Set(pod, running(pod))
		synctest.Wait()
		second := running(pod)
		second.PodIP = "10.0.0.2"
		m.Set(pod, second)
		time.Sleep(time.Minute)
		synctest.Wait()
		written, err := client.CoreV1().Pods("default").Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if written.Status.PodIP != "10.0.0.2" {
			t.Errorf("written: %+v", written.Status)
		}
	})
}

func TestDeletesAfterTheLastStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := testPod()
		pod.DeletionTimestamp = ptr.To(metav1.Now())
		pod.Finalizers = []string{"example.com/keep"} // so that the tracker takes it
		client := fake.NewClientset(pod)
		m := start(t, client)
		status := running(pod)
		status.Phase = corev1.PodFailed
		m.Set(pod, status)
		m.Finish(pod)
		synctest.Wait()
		actions := client.Actions()
		last, ok := actions[len(actions)-1].(clienttesting.DeleteActionImpl)
		if !ok || len(patches(client)) != 1 {
			t.Fatalf("actions: %v", actions)
		}
		if options := last.DeleteOptions; *options.GracePeriodSeconds != 0 || *options.Preconditions.UID != pod.UID {
			t.Errorf("options: %+v", options)
		}
	})
}

func TestMirrorGetsTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		static := testPod()
		static.Annotations = map[string]string{"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "u"}
		mirror := testPod()
		mirror.UID = "mirror-uid"
		client := fake.NewClientset(mirror)
		var there *corev1.Pod
		m := start(t, client)
		m.Mirror = func(*corev1.Pod) *corev1.Pod { return there }
		m.Set(static, running(static))
		synctest.Wait()
		if len(patches(client)) != 0 {
			t.Fatal("wrote without a mirror")
		}
		there = mirror
		m.Poke(static.UID)
		synctest.Wait()
		got := patches(client)
		if len(got) != 1 || got[0]["metadata"].(map[string]any)["uid"] != "mirror-uid" {
			t.Errorf("patches: %v", got)
		}
	})
}
