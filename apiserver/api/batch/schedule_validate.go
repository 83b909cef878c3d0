package batch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// cronField is one of the five fields of a schedule.
type cronField struct {
	name     string
	min, max int
	words    []string // names from min on; nil for numbers only
}

var cronFields = []cronField{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// cronMacros are the schedules with a name.
var cronMacros = []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}

func validateSchedule(schedule string, path *field.Path) field.ErrorList {
	if strings.Contains(schedule, "TZ") {
		return field.ErrorList{field.Invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")}
	}
	if err := parseSchedule(schedule); err != nil {
		return field.ErrorList{field.Invalid(path, schedule, err.Error())}
	}
	return nil
}

// parseSchedule accepts what crontab(5) does, macros, and "@every 1h30m".
func parseSchedule(schedule string) error {
	if every, ok := strings.CutPrefix(schedule, "@every "); ok {
		if _, err := time.ParseDuration(every); err != nil {
			return fmt.Errorf("failed to parse duration %s: %w", schedule, err)
		}
		return nil
	}
	if strings.HasPrefix(schedule, "@") {
		if !slices.Contains(cronMacros, schedule) {
			return fmt.Errorf("unrecognized descriptor: %s", schedule)
		}
		return nil
	}
	parts := strings.Fields(schedule)
	if len(parts) != len(cronFields) {
		return fmt.Errorf("expected exactly %d fields, found %d: %v", len(cronFields), len(parts), parts)
	}
	for i, part := range parts {
		for _, expression := range strings.Split(part, ",") {
			if err := cronFields[i].parse(expression); err != nil {
				return err
			}
		}
	}
	return nil
}

// parse checks "*", "5", "mon", "1-5", "*/2", "10-20/5", "5/15".
func (f cronField) parse(expression string) error {
	span, step, stepped := strings.Cut(expression, "/")
	if stepped {
		if n, err := strconv.Atoi(step); err != nil || n <= 0 {
			return fmt.Errorf("failed to parse int from %s: step of range should be a positive number: %s", f.name, expression)
		}
	}
	if span == "*" || span == "?" {
		return nil
	}
	first, last, ranged := strings.Cut(span, "-")
	low, err := f.value(first)
	if err != nil {
		return err
	}
	if !ranged {
		return nil
	}
	high, err := f.value(last)
	if err != nil {
		return err
	}
	if low > high {
		return fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", low, high, expression)
	}
	return nil
}

func (f cronField) value(text string) (int, error) {
	if at := slices.Index(f.words, strings.ToLower(text)); at >= 0 {
		return f.min + at, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("failed to parse int from %s: %w", text, err)
	}
	switch {
	case n < f.min:
		return 0, fmt.Errorf("beginning of range (%d) below minimum (%d): %s", n, f.min, text)
	case n > f.max:
		return 0, fmt.Errorf("end of range (%d) above maximum (%d): %s", n, f.max, text)
	}
	return n, nil
}
