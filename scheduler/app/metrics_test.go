package app

import (
	"testing"
	"time"

	"k8s.io/component-base/metrics"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// TestMetricNames: these names are in other people's dashboards and alerts.
func TestMetricNames(t *testing.T) {
	m := newMetrics()
	registry := metrics.NewKubeRegistry()
	registry.MustRegister(m.attempts, m.attemptSeconds, m.algorithmSeconds, m.phaseSeconds, m.sliSeconds, m.podAttempts, m.incoming, m.preemptions, m.preemptionVictims)
	registry.CustomMustRegister(m.sizes)
	m.watch(func() (int, int, int, int) { return 1, 2, 3, 4 }, func() (int, int, int) { return 5, 6, 7 })
	m.attempt("default-scheduler", "scheduled", time.Second)
	m.searched(time.Second)
	m.bound(20, time.Second)
	m.preempted(2)
	m.entered("active", "PodAdd")
	m.phase("default-scheduler")("Score", framework.Success, time.Second)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, f := range families {
		seen[f.GetName()] = len(f.GetMetric())
	}
	for name, series := range map[string]int{
		"scheduler_schedule_attempts_total": 1, "scheduler_scheduling_attempt_duration_seconds": 1, "scheduler_scheduling_algorithm_duration_seconds": 1,
		"scheduler_framework_extension_point_duration_seconds": 1, "scheduler_pod_scheduling_sli_duration_seconds": 1, "scheduler_pod_scheduling_attempts": 1,
		"scheduler_queue_incoming_pods_total": 1, "scheduler_preemption_attempts_total": 1, "scheduler_preemption_victims": 1,
		"scheduler_pending_pods": 4, "scheduler_cache_size": 3,
	} {
		if seen[name] != series {
			t.Errorf("%s has %d series, want %d", name, seen[name], series)
		}
	}
}
