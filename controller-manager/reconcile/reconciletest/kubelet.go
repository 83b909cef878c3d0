package reconciletest

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Pods is the resource of pods, for Watching.
var Pods = corev1.SchemeGroupVersion.WithResource("pods")

// RunPods plays scheduler and kubelet: it binds every pod to node, or to the
// one it is pinned to when node is "", and makes it ready, unless ready returns false for it. Call it before Start.
func (c *Cluster) RunPods(node string, ready func(*corev1.Pod) bool) {
	c.t.Helper()
	var mu sync.Mutex
	number := 0
	_, err := c.Env.Informers.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			pod := object.(*corev1.Pod).DeepCopy()
			if pod.Status.Phase != "" && pod.Status.Phase != corev1.PodPending {
				return
			}
			mu.Lock()
			number++
			ip := fmt.Sprintf("10.0.%d.%d", number/250, number%250+1)
			mu.Unlock()
			go c.runPod(pod, node, ip, ready == nil || ready(pod))
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *Cluster) runPod(pod *corev1.Pod, node, ip string, ready bool) {
	ctx := context.Background() //nolint:forbidigo // outlives no test: every call is answered by memory
	if pod.Spec.NodeName = node; node == "" {
		pod.Spec.NodeName = pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
	}
	bound, err := c.Client.CoreV1().Pods(pod.Namespace).Update(ctx, pod, metav1.UpdateOptions{})
	if err != nil {
		c.ignore(err)
		return
	}
	bound.Status.Phase = corev1.PodRunning
	bound.Status.PodIP, bound.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	if ready {
		bound.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	}
	_, err = c.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, bound, metav1.UpdateOptions{})
	c.ignore(err)
}

// ignore reports what is not the pod's deletion in the meantime.
func (c *Cluster) ignore(err error) {
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		c.t.Errorf("run pod: %v", err)
	}
}
