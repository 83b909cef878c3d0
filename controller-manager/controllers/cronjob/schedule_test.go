package cronjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNext(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 31, 23, 58, 30, 0, time.UTC) // a Saturday
	cases := map[string]string{
		"* * * * *":       "2026-01-31T23:59:00Z",
		"*/15 * * * *":    "2026-02-01T00:00:00Z",
		"5 4 * * sun":     "2026-02-01T04:05:00Z",
		"0 0 29 2 *":      "2028-02-29T00:00:00Z",
		"0 12 13 * 5":     "2026-02-06T12:00:00Z", // either day field
		"30 8-10/2 * * 1": "2026-02-02T08:30:00Z",
		"@monthly":        "2026-02-01T00:00:00Z",
		"@every 90s":      "2026-02-01T00:00:00Z",
		"0 0 30 2 *":      "0001-01-01T00:00:00Z",
	}
	for text, want := range cases {
		s, err := parseSchedule(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s.next(start).Format(time.RFC3339); got != want {
			t.Errorf("%q: next is %s, want %s", text, got, want)
		}
	}
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "@every x"} {
		if _, err := parseSchedule(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestLatestDue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 10, 7, 0, 0, time.UTC)
	at := func(ago time.Duration) metav1.Time { return metav1.NewTime(now.Add(-ago)) }
	cases := []struct {
		name, schedule string
		created        time.Duration
		last           time.Duration // 0 for never
		want           string        // "" for none
		many           bool
	}{
		{"not yet", "0 11 * * *", time.Hour, 0, "", false},
		{"just now", "*/5 * * * *", time.Hour, 7 * time.Minute, "10:05", false},
		{"last of several", "0 * * * *", 5 * time.Hour, 0, "10:00", false},
		{"years of minutes", "* * * * *", 1000 * time.Hour, 0, "10:07", true},
		{"interval", "@every 10m", 25 * time.Minute, 0, "10:02", false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan, err := parseSchedule(tc.schedule)
			if err != nil {
				t.Fatal(err)
			}
			cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(tc.created)}}
			if tc.last > 0 {
				last := at(tc.last)
				cron.Status.LastScheduleTime = &last
			}
			due, many := latestDue(cron, plan, now)
			got := ""
			if !due.IsZero() {
				got = due.Format("15:04")
			}
			if got != tc.want || many != tc.many {
				t.Errorf("due %q many %v, want %q %v", got, many, tc.want, tc.many)
			}
		})
	}
}
