package cronjob

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// schedule is a parsed cron expression: five fields (minute, hour, day of
// month, month, day of week) or one of the names @yearly ... @hourly, or
// "@every <duration>".
type schedule struct {
	minute, hour, day, month, weekday []bool
	// anyDay and anyWeekday say the field is "*": then the other one alone
	// decides; else a day matches when either field does (crontab(5)).
	anyDay, anyWeekday bool
	every              time.Duration
}

var named = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
	"@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

var (
	monthNames   = []string{"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// parseSchedule reads an expression.
func parseSchedule(text string) (*schedule, error) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "@every "); ok {
		every, err := time.ParseDuration(rest)
		if err != nil || every < time.Second {
			return nil, fmt.Errorf("parse schedule %q: not a duration of a second or more", text)
		}
		return &schedule{every: every.Truncate(time.Second)}, nil
	}
	if full, ok := named[text]; ok {
		text = full
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return nil, fmt.Errorf("parse schedule %q: %d fields, not 5", text, len(fields))
	}
	s := &schedule{anyDay: star(fields[2]), anyWeekday: star(fields[4])}
	for i, f := range []struct {
		into     *[]bool
		low, top int
		names    []string
	}{{&s.minute, 0, 59, nil}, {&s.hour, 0, 23, nil}, {&s.day, 1, 31, nil}, {&s.month, 1, 12, monthNames}, {&s.weekday, 0, 6, weekdayNames}} {
		set, err := parseField(fields[i], f.low, f.top, f.names)
		if err != nil {
			return nil, fmt.Errorf("parse schedule %q: %w", text, err)
		}
		*f.into = set
	}
	return s, nil
}

func star(field string) bool { return strings.HasPrefix(field, "*") || strings.HasPrefix(field, "?") }

// parseField reads a list of values, ranges and steps.
func parseField(text string, low, top int, names []string) ([]bool, error) {
	set := make([]bool, top+1)
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("%q is not a step", part)
			}
			step = n
		}
		first, last := low, top
		if span != "*" && span != "?" {
			from, to, ranged := strings.Cut(span, "-")
			var err error
			if first, err = value(from, names); err != nil {
				return nil, err
			}
			switch {
			case ranged:
				if last, err = value(to, names); err != nil {
					return nil, err
				}
			case !stepped:
				last = first
			}
		}
		if first < low || last > top || first > last {
			return nil, fmt.Errorf("%q is not within %d and %d", part, low, top)
		}
		for i := first; i <= last; i += step {
			set[i] = true
		}
	}
	return set, nil
}

func value(text string, names []string) (int, error) {
	if at := slices.Index(names, strings.ToLower(text)); at >= 0 && text != "" {
		return at, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return n, nil
}

// horizon bounds the search: a schedule like 30 February never comes.
const horizon = 5 * 366 * 24 * time.Hour

// next returns the first time after t that the schedule names, in t's
// location; zero when there is none. A time that a clock change skips is
// passed over; one that it repeats comes once.
func (s *schedule) next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Truncate(time.Second).Add(s.every)
	}
	end := t.Add(horizon)
	for t = t.Truncate(time.Minute).Add(time.Minute); t.Before(end); {
		year, month, day := t.Date()
		switch {
		case !s.month[month]:
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, t.Location())
		case !s.dayMatches(t):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, t.Location())
		case !s.hour[t.Hour()]:
			t = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case !s.minute[t.Minute()]:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

func (s *schedule) dayMatches(t time.Time) bool {
	day, weekday := s.day[t.Day()], s.weekday[t.Weekday()]
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
