package cronjob

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

// manyMissed is from how many missed times on somebody should be told.
const manyMissed = 100

// latestDue returns the last time of the schedule that has come and has no Job
// yet, zero when none has; many when there were more than manyMissed. Only the
// last one is started, however many were missed.
func latestDue(cron *batchv1.CronJob, plan *schedule, now time.Time) (due time.Time, many bool) {
	since := cron.CreationTimestamp.Time
	if cron.Status.LastScheduleTime != nil {
		since = cron.Status.LastScheduleTime.Time
	}
	if limit := cron.Spec.StartingDeadlineSeconds; limit != nil {
		if earliest := now.Add(-time.Duration(*limit) * time.Second); earliest.After(since) {
			since = earliest
		}
	}
	first := plan.next(since.In(now.Location()))
	if first.IsZero() || first.After(now) {
		return time.Time{}, false
	}
	if plan.every > 0 {
		n := now.Sub(since) / plan.every
		return since.Truncate(time.Second).Add(n * plan.every), n > manyMissed
	}
	// Walk in doubling strides from the end: the last one is near now whatever
	// the schedule, and years of missed minutes are not counted one by one.
	for back := time.Minute; ; back *= 2 {
		start := now.Add(-back)
		if start.Before(since) {
			start = since
		}
		for t := plan.next(start); !t.IsZero() && !t.After(now); t = plan.next(t) {
			due = t
		}
		if !due.IsZero() || !start.After(since) {
			break
		}
	}
	t := first
	for n := 0; !t.IsZero() && !t.After(now); n++ {
		if n >= manyMissed {
			return due, true
		}
		t = plan.next(t)
	}
	return due, false
}
