package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestRuntimeClass(t *testing.T) {
	t.Parallel()
	cpu := func(q string) corev1.ResourceList { return corev1.ResourceList{"cpu": resource.MustParse(q)} }
	plugin := NewRuntimeClass(objects{"runtimeclasses//vm": &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "vm"}, Overhead: &nodev1.Overhead{PodFixed: cpu("250m")},
		Scheduling: &nodev1.Scheduling{
			NodeSelector: map[string]string{"vm": "yes"},
			Tolerations:  []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}},
		},
	}})
	for name, test := range map[string]struct {
		spec corev1.PodSpec
		text string
	}{
		"no class":             {corev1.PodSpec{}, ""},
		"class":                {corev1.PodSpec{RuntimeClassName: ptr.To("vm")}, ""},
		"the same again":       {corev1.PodSpec{RuntimeClassName: ptr.To("vm"), Overhead: cpu("0.25"), NodeSelector: map[string]string{"vm": "yes"}}, ""},
		"missing class":        {corev1.PodSpec{RuntimeClassName: ptr.To("gone")}, `pod rejected: RuntimeClass "gone" not found`},
		"other overhead":       {corev1.PodSpec{RuntimeClassName: ptr.To("vm"), Overhead: cpu("1")}, "doesn't match"},
		"overhead of no class": {corev1.PodSpec{Overhead: cpu("1")}, "without corresponding RuntimeClass"},
		"other node":           {corev1.PodSpec{RuntimeClassName: ptr.To("vm"), NodeSelector: map[string]string{"vm": "no"}}, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: test.spec}
			expect(t, run(t, plugin, write(Create, "pods", "p", pod, nil)), test.text)
			if test.text != "" || pod.Spec.RuntimeClassName == nil {
				return
			}
			if pod.Spec.Overhead.Cpu().MilliValue() != 250 || pod.Spec.NodeSelector["vm"] != "yes" || len(pod.Spec.Tolerations) != 1 {
				t.Errorf("got %+v", pod.Spec)
			}
		})
	}
}
