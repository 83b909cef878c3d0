package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// ordinal returns the pod's number in the set, -1 if its name is not one of the set's.
func ordinal(set *appsv1.StatefulSet, pod *corev1.Pod) int {
	parent, number, ok := cutLast(pod.Name)
	if !ok || parent != set.Name {
		return -1
	}
	return number
}

func cutLast(name string) (parent string, number int, ok bool) {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != name[at+1:] {
		return "", 0, false
	}
	return name[:at], int(n), true
}

// first is the lowest ordinal (spec.ordinals.start).
func first(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// newPod makes the pod with a number from the template of a revision.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, number int) *corev1.Pod {
	pod := podcontrol.FromTemplate(template, set, metav1.NewControllerRef(set, kindStatefulSet))
	pod.GenerateName, pod.Name = "", fmt.Sprintf("%s-%d", set.Name, number)
	label(set, pod)
	pod.Labels[appsv1.StatefulSetRevisionLabel] = revision
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	mountClaims(set, pod)
	return pod
}

// label sets the labels of the pod's identity; false if they were right.
func label(set *appsv1.StatefulSet, pod *corev1.Pod) (changed bool) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	for key, value := range map[string]string{
		appsv1.StatefulSetPodNameLabel: pod.Name, appsv1.PodIndexLabel: strconv.Itoa(ordinal(set, pod)),
	} {
		if pod.Labels[key] != value {
			pod.Labels[key] = value
			changed = true
		}
	}
	return changed
}

// claims returns the claims of a pod, made from the set's templates.
func claims(set *appsv1.StatefulSet, pod *corev1.Pod) []*corev1.PersistentVolumeClaim {
	var all []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		claim := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		claim.Name, claim.Namespace = claim.Name+"-"+pod.Name, set.Namespace
		claim.Status = corev1.PersistentVolumeClaimStatus{}
		claim.Labels = maps.Clone(claim.Labels)
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		if set.Spec.Selector != nil {
			maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		}
		all = append(all, claim)
	}
	return all
}

// mountClaims adds the pod's claims to its volumes, in place of volumes of
// the same name.
func mountClaims(set *appsv1.StatefulSet, pod *corev1.Pod) {
	var volumes []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		name := set.Spec.VolumeClaimTemplates[i].Name
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name + "-" + pod.Name},
		}})
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	}
	pod.Spec.Volumes = append(volumes, pod.Spec.Volumes...)
}

// retain makes the claim's owners fit the retention policy (KEP-1847): the set
// when its deletion deletes claims, the pod when scaling down does and the pod
// is one too many. It reports whether anything changed.
func retain(set *appsv1.StatefulSet, pod *corev1.Pod, claim *corev1.PersistentVolumeClaim, condemned bool) bool {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	bySet := policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	byPod := policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType && condemned
	if byPod {
		bySet = false
	}
	changed := own(claim, bySet, *metav1.NewControllerRef(set, kindStatefulSet))
	podRef := *metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
	return own(claim, byPod, podRef) || changed
}

// own adds or removes one owner of the claim.
func own(claim *corev1.PersistentVolumeClaim, want bool, ref metav1.OwnerReference) bool {
	ref.BlockOwnerDeletion = nil
	at := slices.IndexFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == ref.UID })
	switch {
	case want && at < 0:
		claim.OwnerReferences = append(claim.OwnerReferences, ref)
		return true
	case !want && at >= 0:
		claim.OwnerReferences = slices.Delete(claim.OwnerReferences, at, at+1)
		return true
	}
	return false
}
