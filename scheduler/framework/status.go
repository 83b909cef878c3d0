package framework

import "strings"

// Code is a plugin's verdict.
type Code uint8

// The verdicts. The zero value is success.
const (
	Success Code = iota
	// Error is an internal failure: the attempt is repeated with back-off.
	Error
	// Unschedulable: this node or Pod does not fit now; preemption may help.
	Unschedulable
	// Unresolvable: it does not fit, and removing Pods would not help.
	Unresolvable
	// Skip leaves the plugin out of the phases that follow.
	Skip
	// Pending: the Pod waits for something that is under way.
	Pending
)

// Status is a plugin's answer. nil is success.
type Status struct {
	code    Code
	reasons []string
	err     error
	plugin  string
}

// NewStatus makes a Status; reasons are shown to users, counted per node.
func NewStatus(code Code, reasons ...string) *Status {
	return &Status{code: code, reasons: reasons}
}

// AsStatus wraps an error; nil stays nil.
func AsStatus(err error) *Status {
	if err == nil {
		return nil
	}
	return &Status{code: Error, err: err, reasons: []string{err.Error()}}
}

// Code is Success for a nil Status.
func (s *Status) Code() Code {
	if s == nil {
		return Success
	}
	return s.code
}

// IsSuccess reports Success.
func (s *Status) IsSuccess() bool { return s.Code() == Success }

// IsSkip reports Skip.
func (s *Status) IsSkip() bool { return s.Code() == Skip }

// IsRejected reports that the Pod does not fit, as opposed to an Error.
func (s *Status) IsRejected() bool {
	switch s.Code() {
	case Unschedulable, Unresolvable, Pending:
		return true
	}
	return false
}

// Reasons are the texts for users.
func (s *Status) Reasons() []string {
	if s == nil {
		return nil
	}
	return s.reasons
}

// Message joins the reasons.
func (s *Status) Message() string { return strings.Join(s.Reasons(), ", ") }

// Err is the wrapped error of an Error, else nil.
func (s *Status) Err() error {
	if s == nil {
		return nil
	}
	return s.err
}

// Plugin is the name of the plugin that answered, set by Runner.
func (s *Status) Plugin() string {
	if s == nil {
		return ""
	}
	return s.plugin
}

// By returns s with the plugin's name; nil stays nil.
func (s *Status) By(plugin string) *Status {
	if s == nil || s.plugin == plugin {
		return s
	}
	named := *s
	named.plugin = plugin
	return &named
}
