package admission

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

const (
	// tokenDirectory is where clients in a container look for credentials
	// (client-go rest.InClusterConfig).
	tokenDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume    = "kube-api-access-"
	// tokenSeconds is an hour and seven seconds: the odd number marks tokens
	// that were mounted by default, which the server extends for old clients.
	tokenSeconds int64 = 3607
	// rootCA is the ConfigMap that a controller puts into every namespace.
	rootCA = "kube-root-ca.crt"
)

// mountToken adds a volume with token, CA and namespace, and mounts it in
// every container that has nothing of its own at that path.
func mountToken(pod *corev1.Pod) {
	name, exists := tokenVolumeName(pod)
	mount := corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenDirectory}
	needed := mountIn(pod.Spec.InitContainers, mount)
	needed = mountIn(pod.Spec.Containers, mount) || needed
	if needed && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name:         name,
			VolumeSource: corev1.VolumeSource{Projected: tokenProjection()},
		})
	}
}

// tokenVolumeName finds the volume a former admission added, or makes a name.
func tokenVolumeName(pod *corev1.Pod) (name string, exists bool) {
	taken := map[string]bool{}
	for i := range pod.Spec.Volumes {
		if strings.HasPrefix(pod.Spec.Volumes[i].Name, tokenVolume) {
			return pod.Spec.Volumes[i].Name, true
		}
		taken[pod.Spec.Volumes[i].Name] = true
	}
	for {
		name = tokenVolume + utilrand.String(5)
		if !taken[name] {
			return name, false
		}
	}
}

func mountIn(containers []corev1.Container, mount corev1.VolumeMount) (added bool) {
	for i := range containers {
		if mountsAt(&containers[i], mount.MountPath) {
			continue
		}
		containers[i].VolumeMounts = append(containers[i].VolumeMounts, mount)
		added = true
	}
	return added
}

func mountsAt(c *corev1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}

func tokenProjection() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To[int32](0o644),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(tokenSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// limitSecrets allows only the secrets the account lists.
func limitSecrets(a *Attributes, pod *corev1.Pod, account *corev1.ServiceAccount) error {
	mountable := map[string]bool{}
	for _, secret := range account.Secrets {
		mountable[secret.Name] = true
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil && !mountable[volume.Secret.SecretName] {
			return Forbidden(a, fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", volume.Secret.SecretName, account.Name))
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if name, ok := secretInEnv(&containers[i], mountable); !ok {
				return Forbidden(a, fmt.Errorf("container %s with secret reference %q is not allowed because service account %s does not reference that secret", containers[i].Name, name, account.Name))
			}
		}
	}
	pullable := map[string]bool{}
	for _, secret := range account.ImagePullSecrets {
		pullable[secret.Name] = true
	}
	for i, secret := range pod.Spec.ImagePullSecrets {
		if !pullable[secret.Name] {
			return Forbidden(a, fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, secret.Name, account.Name))
		}
	}
	return nil
}

// secretInEnv names the first secret in a container's environment that is not
// allowed.
func secretInEnv(c *corev1.Container, allowed map[string]bool) (name string, ok bool) {
	for _, env := range c.Env {
		if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil && !allowed[env.ValueFrom.SecretKeyRef.Name] {
			return env.ValueFrom.SecretKeyRef.Name, false
		}
	}
	for _, from := range c.EnvFrom {
		if from.SecretRef != nil && !allowed[from.SecretRef.Name] {
			return from.SecretRef.Name, false
		}
	}
	return "", true
}
