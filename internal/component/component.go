// Package component is the skeleton every binary shares: logging, signals, a
// run group with start and stop order, health checks, metrics, pprof, the
// serving of them with delegated authentication, leader election and systemd
// notification. Each binary's app/ calls it; it calls no component's code.
// Goroutines: one per part of a Group, for as long as Group.Run runs.
package component

import "context"

// Runnable is a long-running part of a process. Run blocks until ctx ends
// (then it returns nil after cleaning up) or the part cannot go on (then an
// error, which ends the process). Run is called once.
//
// A Runnable may also have Ready() error, nil once it does its work; a Group
// waits for it before the next part starts, and /readyz reports it.
type Runnable interface {
	Run(ctx context.Context) error
}

// RunFunc makes a function a Runnable.
type RunFunc func(ctx context.Context) error

// Run calls f.
func (f RunFunc) Run(ctx context.Context) error { return f(ctx) }

// Part is a named Runnable, for logs and health checks.
type Part struct {
	Name string
	Runnable
}
