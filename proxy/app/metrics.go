//go:build linux

package app

import (
	"slices"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/skeg-dev/skeg/proxy/syncer"
)

// Metrics with upstream's names, for the dashboards that query them.
var (
	syncDuration = metrics.NewHistogram(&metrics.HistogramOpts{
		Subsystem: "kubeproxy", Name: "sync_proxy_rules_duration_seconds",
		Help:           "Seconds that one update of the kernel took",
		Buckets:        metrics.ExponentialBuckets(0.001, 2, 15),
		StabilityLevel: metrics.ALPHA,
	})
	syncLast = metrics.NewGauge(&metrics.GaugeOpts{
		Subsystem: "kubeproxy", Name: "sync_proxy_rules_last_timestamp_seconds",
		Help:           "When the kernel was last updated",
		StabilityLevel: metrics.ALPHA,
	})
	// networkProgramming counts from the change of a Pod or Service that made
	// an EndpointSlice change, by the annotation its controller leaves.
	networkProgramming = metrics.NewHistogram(&metrics.HistogramOpts{
		Subsystem: "kubeproxy", Name: "network_programming_duration_seconds",
		Help:           "Seconds from the change that a slice tells of until the kernel had it",
		Buckets:        slices.Concat(metrics.LinearBuckets(0.25, 0.25, 2), metrics.LinearBuckets(1, 1, 59), metrics.LinearBuckets(60, 5, 12), metrics.LinearBuckets(120, 30, 7)),
		StabilityLevel: metrics.ALPHA,
	})
	serviceChanges = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: "kubeproxy", Name: "sync_proxy_rules_service_changes_total",
		Help:           "Frontends of Services that were changed",
		StabilityLevel: metrics.ALPHA,
	})
	syncFailures = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: "kubeproxy", Name: "sync_proxy_rules_failures_total",
		Help:           "Updates of the kernel that failed",
		StabilityLevel: metrics.ALPHA,
	})
)

func registerMetrics() {
	legacyregistry.MustRegister(syncDuration, syncLast, networkProgramming, serviceChanges, syncFailures)
}

// observe counts a successful update.
func observe(done syncer.Report) {
	syncDuration.Observe(done.Took.Seconds())
	syncLast.SetToCurrentTime()
	serviceChanges.Add(float64(max(len(done.Gone), len(done.Added))))
	for _, t := range done.Triggers {
		networkProgramming.Observe(max(0, time.Since(t).Seconds()))
	}
}
