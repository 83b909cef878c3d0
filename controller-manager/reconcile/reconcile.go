// Package reconcile holds the contract of a controller and what turns one into
// running work: the wiring of shared informers to a rate-limited queue, the
// workers, expectations about objects just created or deleted, adoption and
// release of dependents, and batches that grow while they succeed.
//
// A controller is a Reconciler in controllers/<name>; app/ lists it and calls
// Run, which starts its workers and one goroutine for a Loop and returns when
// all have ended.
package reconcile

import (
	"context"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"
)

// Result says what happens to a key after a reconcile without an error.
type Result struct {
	// RequeueAfter asks for another look at the key after this time. 0 waits
	// for the next event.
	RequeueAfter time.Duration
}

// Reconciler makes the state behind a key what it should be.
//
// Reconcile is level-triggered: it looks at the present state whatever the
// event was, may be called for any key at any time (also for objects that are
// gone) and again after an error, with the back-off of the queue. Two calls
// never run at once for one key; calls for different keys do.
type Reconciler interface {
	// Name is the controller's name as upstream has it for --controllers,
	// with "-controller" at its end; logs and metrics carry it.
	Name() string
	// Watches lists every informer the reconciler reads. The ones that should
	// wake it carry a handler. Workers start when all of them have synced.
	Watches() []Watch
	// Reconcile handles one key.
	Reconcile(ctx context.Context, key string) (Result, error)
}

// Starter is implemented by reconcilers that work on keys no event brings,
// like "look at everything each 20 s".
type Starter interface {
	// StartKeys are queued once when the informers have synced.
	StartKeys() []string
}

// Loop is implemented by reconcilers that need a goroutine of their own beside
// the workers. Run ends when ctx ends; an error ends the process.
type Loop interface {
	Run(ctx context.Context, q Queue) error
}

// Queue is what event handlers and loops put keys in. Safe for concurrent use;
// a key that is already waiting is not queued twice.
type Queue interface {
	Add(key string)
	AddAfter(key string, after time.Duration)
}

// Env is what every controller is built from. All fields are required.
type Env struct {
	// Client is the typed client.
	Client kubernetes.Interface
	// Metadata reads and deletes objects of any kind by their metadata.
	Metadata metadata.Interface
	// Informers is the one factory of the process: one informer a kind.
	Informers informers.SharedInformerFactory
	// Events makes a recorder for the named component.
	Events func(component string) record.EventRecorder
}
