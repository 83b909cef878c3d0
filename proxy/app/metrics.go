//go:build linux

package app

import (
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
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
	syncFailures = metrics.NewCounter(&metrics.CounterOpts{
		Subsystem: "kubeproxy", Name: "sync_proxy_rules_failures_total",
		Help:           "Updates of the kernel that failed",
		StabilityLevel: metrics.ALPHA,
	})
)

func registerMetrics() { legacyregistry.MustRegister(syncDuration, syncLast, syncFailures) }
