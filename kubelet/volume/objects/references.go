package objects

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

type reference struct{ kind, name string }

// references yields every ConfigMap and Secret that the Pod's volumes and
// environments name, maybe more than once.
func references(pod *corev1.Pod) iter.Seq[reference] {
	return func(yield func(reference) bool) {
		for i := range pod.Spec.Volumes {
			if !volumeReferences(&pod.Spec.Volumes[i], yield) {
				return
			}
		}
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if !envReferences(list[i].Env, list[i].EnvFrom, yield) {
					return
				}
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			c := &pod.Spec.EphemeralContainers[i]
			if !envReferences(c.Env, c.EnvFrom, yield) {
				return
			}
		}
	}
}

func volumeReferences(v *corev1.Volume, yield func(reference) bool) bool {
	switch {
	case v.ConfigMap != nil:
		return yield(reference{configMap, v.ConfigMap.Name})
	case v.Secret != nil:
		return yield(reference{secret, v.Secret.SecretName})
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil && !yield(reference{configMap, source.ConfigMap.Name}) {
				return false
			}
			if source.Secret != nil && !yield(reference{secret, source.Secret.Name}) {
				return false
			}
		}
	}
	return true
}

func envReferences(env []corev1.EnvVar, from []corev1.EnvFromSource, yield func(reference) bool) bool {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil && !yield(reference{configMap, ref.Name}) {
			return false
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil && !yield(reference{secret, ref.Name}) {
			return false
		}
	}
	for _, f := range from {
		if f.ConfigMapRef != nil && !yield(reference{configMap, f.ConfigMapRef.Name}) {
			return false
		}
		if f.SecretRef != nil && !yield(reference{secret, f.SecretRef.Name}) {
			return false
		}
	}
	return true
}
