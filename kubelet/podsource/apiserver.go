package podsource

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/internal/kubeclient"
	"github.com/skeg-dev/skeg/internal/podinfo"
)

// APIServer is the source of Pods bound to the node.
type APIServer struct {
	sink     Sink
	mirrors  *Mirrors
	barrier  *Barrier
	informer cache.SharedIndexInformer
	synced   atomic.Bool
}

// NewAPIServer watches the node's Pods. Mirror Pods go to mirrors, which may
// be nil when there are no manifest files.
func NewAPIServer(client kubernetes.Interface, nodeName string, sink Sink, mirrors *Mirrors, barrier *Barrier) (*APIServer, error) {
	factory := kubeclient.Informers(client, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", nodeName).String()
	}))
	s := &APIServer{sink: sink, mirrors: mirrors, barrier: barrier, informer: factory.Core().V1().Pods().Informer()}
	_, err := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.apply(obj) },
		UpdateFunc: func(old, obj any) { s.update(old, obj) },
		DeleteFunc: func(obj any) { s.remove(obj) },
	})
	if err != nil {
		return nil, fmt.Errorf("follow pods: %w", err)
	}
	return s, nil
}

// Run watches until ctx ends.
func (s *APIServer) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.informer.RunWithContext(ctx)
	}()
	if cache.WaitForCacheSync(ctx.Done(), s.informer.HasSynced) {
		s.synced.Store(true)
		s.barrier.Done()
	}
	<-done
	return nil
}

// Ready is nil once the node's Pods are known.
func (s *APIServer) Ready() error {
	if !s.synced.Load() {
		return fmt.Errorf("pods of the node are not listed yet")
	}
	return nil
}

func (s *APIServer) apply(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if podinfo.IsMirror(pod) {
		if s.mirrors != nil {
			s.mirrors.seen(pod)
		}
		return
	}
	s.sink.Apply(pod)
}

// update also notices an object that was replaced by one of the same name
// while the watch was broken.
func (s *APIServer) update(before, obj any) {
	old, ok := before.(*corev1.Pod)
	if pod, isPod := obj.(*corev1.Pod); ok && isPod && old.UID != pod.UID {
		s.remove(old)
	}
	s.apply(obj)
}

func (s *APIServer) remove(obj any) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if podinfo.IsMirror(pod) {
		if s.mirrors != nil {
			s.mirrors.lost(pod)
		}
		return
	}
	s.sink.Remove(pod)
}
