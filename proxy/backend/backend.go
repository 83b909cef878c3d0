// Package backend is the contract for what carries out a Ruleset in the
// kernel: backend/nftables and backend/ipvs implement it, backend/backendtest
// holds the suite, package syncer calls it. It starts no goroutines.
package backend

import (
	"context"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Backend programs one network namespace: the one its constructor was given.
// Calls come from one goroutine at a time.
type Backend interface {
	// Name is the proxy mode ("nftables", "ipvs").
	Name() string
	// Available is nil when the kernel can do this, and otherwise tells the
	// user what is missing. It changes nothing.
	Available(ctx context.Context) error
	// Sync makes the kernel do what rules say. It is idempotent: the same
	// rules twice change nothing. The first Sync removes what an earlier
	// process left and keeps what is still right, so that no flow in progress
	// is cut. After an error the next Sync starts from scratch. rules are
	// immutable and may be kept.
	Sync(ctx context.Context, rules *ruleset.Ruleset) error
	// Forget makes the next Sync compare with the kernel and not with memory,
	// to repair what a stranger changed.
	Forget()
	// Cleanup removes everything that any instance of this backend ever made,
	// also where the kernel can no longer do it.
	Cleanup(ctx context.Context) error
}
