package deployment

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// sized builds sets, oldest first, from "spec/available" each; the last is the newest.
func sized(texts ...string) []*appsv1.ReplicaSet {
	var all []*appsv1.ReplicaSet
	for i, text := range texts {
		var spec, available int32
		_, _ = fmt.Sscanf(text, "%d/%d", &spec, &available)
		all = append(all, &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("rs", i), UID: types.UID(fmt.Sprint(i)), CreationTimestamp: metav1.Unix(int64(i), 0)},
			Spec:       appsv1.ReplicaSetSpec{Replicas: &spec}, Status: appsv1.ReplicaSetStatus{AvailableReplicas: available, Replicas: spec},
		})
	}
	return all
}

func rolling(replicas int32, surge, unavailable string) *appsv1.Deployment {
	return &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &replicas, Strategy: appsv1.DeploymentStrategy{
		Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: ptr.To(intstr.Parse(surge)), MaxUnavailable: ptr.To(intstr.Parse(unavailable)),
		},
	}}}
}

func TestNextStep(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name               string
		replicas           int32
		surge, unavailable string
		sets               []string
		up                 int32
		down               string
	}{
		{"start", 10, "25%", "25%", []string{"10/10", "0/0"}, 3, "rs0=8"},
		{"surge only, new not available", 10, "3", "0", []string{"10/10", "3/0"}, 3, ""},
		{"surge only, new available", 10, "3", "0", []string{"10/10", "3/3"}, 3, "rs0=7"},
		{"unavailable only", 10, "0", "2", []string{"10/10", "0/0"}, 0, "rs0=8"},
		{"both zero moves one", 3, "0", "0", []string{"3/3", "0/0"}, 0, "rs0=2"},
		{"unhealthy old ones go first", 10, "3", "0", []string{"2/0", "8/8", "3/2"}, 3, "rs0=0"},
		{"oldest first", 10, "0", "5", []string{"4/4", "6/6", "0/0"}, 0, "rs0=0 rs1=5"},
		{"scaled down meanwhile", 2, "1", "0", []string{"0/0", "5/5"}, 2, ""},
		{"broken new set halts", 4, "1", "1", []string{"3/3", "2/0"}, 2, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, sets := rolling(tc.replicas, tc.surge, tc.unavailable), sized(tc.sets...)
			newest := sets[len(sets)-1]
			if got := nextNewReplicas(d, sets, newest); got != tc.up {
				t.Errorf("newest goes to %d, want %d", got, tc.up)
			}
			var down []string
			for _, s := range nextOldReplicas(d, sets, newest) {
				down = append(down, fmt.Sprintf("%s=%d", s.set.Name, s.to))
			}
			if got := strings.Join(down, " "); got != tc.down {
				t.Errorf("old ones go to %q, want %q", got, tc.down)
			}
		})
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	cases := []struct {
		before, replicas int32
		surge            string
		sets             []string
		want             string
	}{
		{10, 20, "0", []string{"5/5", "5/5"}, "rs1=10 rs0=10"},
		{13, 20, "3", []string{"8/8", "5/5"}, "rs0=14 rs1=9"},
		{10, 5, "0", []string{"5/5", "5/5"}, "rs0=2 rs1=3"},
		{10, 0, "0", []string{"7/7", "3/3"}, "rs0=0 rs1=0"},
	}
	for _, tc := range cases {
		d, sets := rolling(tc.replicas, tc.surge, "1"), sized(tc.sets...)
		for _, rs := range sets {
			rs.Annotations = map[string]string{annotationMax: fmt.Sprint(tc.before)}
		}
		var got []string
		total := int32(0)
		for _, s := range shares(d, sets) {
			got = append(got, fmt.Sprintf("%s=%d", s.set.Name, s.to))
			total += s.to
		}
		if text := strings.Join(got, " "); text != tc.want {
			t.Errorf("%v to %d: %s, want %s", tc.sets, tc.replicas, text, tc.want)
		}
		if tc.replicas > 0 && total != tc.replicas+maxSurge(d) {
			t.Errorf("%v to %d: shares add up to %d", tc.sets, tc.replicas, total)
		}
	}
}

func TestProgressDeadline(t *testing.T) {
	t.Parallel()
	now := time.Unix(100_000, 0)
	d := rolling(3, "1", "0")
	d.Spec.ProgressDeadlineSeconds = ptr.To[int32](60)
	d.Status.Conditions = []appsv1.DeploymentCondition{newCondition(appsv1.DeploymentProgressing, "True", reasonSetUpdated, "", now.Add(-59*time.Second))}
	d.Status.UpdatedReplicas, d.Status.Replicas = 1, 4
	status := *d.Status.DeepCopy()
	judgeProgress(d, &status, nil, now)
	if c := condition(&status, appsv1.DeploymentProgressing); c.Reason != reasonSetUpdated {
		t.Errorf("before the deadline: %+v", c)
	}
	if wait := untilDeadline(d, &status, now); wait != 2*time.Second {
		t.Errorf("looks again in %v", wait)
	}
	judgeProgress(d, &status, nil, now.Add(2*time.Second))
	if c := condition(&status, appsv1.DeploymentProgressing); c.Reason != reasonTimedOut || c.Status != "False" {
		t.Errorf("after it: %+v", c)
	}
	status.ReadyReplicas = 4
	judgeProgress(d, &status, nil, now.Add(3*time.Second))
	if c := condition(&status, appsv1.DeploymentProgressing); c.Reason != reasonSetUpdated || c.Status != "True" {
		t.Errorf("moving again: %+v", c)
	}
}
