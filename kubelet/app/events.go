package app

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// recorder writes events about Pods, and containers of them, to the API.
type recorder struct {
	broadcaster record.EventBroadcaster
	events      record.EventRecorder
}

func newRecorder(client kubernetes.Interface, nodeName string) *recorder {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	source := corev1.EventSource{Component: "kubelet", Host: nodeName}
	return &recorder{broadcaster: broadcaster, events: broadcaster.NewRecorder(scheme.Scheme, source)}
}

// Event implements lifecycle.Recorder.
func (r *recorder) Event(pod *corev1.Pod, containerName, eventType, reason, message string) {
	ref := &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath(pod, containerName),
	}
	r.events.Event(ref, eventType, reason, message)
}

// fieldPath points at the container: "spec.containers{web}".
func fieldPath(pod *corev1.Pod, name string) string {
	if name == "" {
		return ""
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// close ends the sending of events.
func (r *recorder) close() { r.broadcaster.Shutdown() }
