package measure

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Runtime is the runtime with each call counted and timed, under the names of
// the CRI's operations. Sessions (exec, attach) last as long as their users
// want.
func (s *Set) Runtime(inner container.Runtime) container.Runtime {
	return &runtime{set: s, inner: inner}
}

type runtime struct {
	set   *Set
	inner container.Runtime
}

func (r *runtime) timed(name string, call func() error) error {
	start := r.set.clock.Now()
	err := call()
	r.set.operation(name, start, err)
	return err
}

// EnsureSandbox implements container.Sandboxes.
func (r *runtime) EnsureSandbox(ctx context.Context, spec container.SandboxSpec) error {
	return r.timed("run_podsandbox", func() error { return r.inner.EnsureSandbox(ctx, spec) })
}

// RemoveSandbox implements container.Sandboxes.
func (r *runtime) RemoveSandbox(ctx context.Context, pod types.UID) error {
	return r.timed("remove_podsandbox", func() error { return r.inner.RemoveSandbox(ctx, pod) })
}

// ListSandboxes implements container.Sandboxes.
func (r *runtime) ListSandboxes(ctx context.Context) (all []container.Sandbox, err error) {
	err = r.timed("list_podsandbox", func() error {
		all, err = r.inner.ListSandboxes(ctx)
		return err
	})
	return all, err
}

// Create implements container.Containers.
func (r *runtime) Create(ctx context.Context, spec container.Spec) error {
	return r.timed("create_container", func() error { return r.inner.Create(ctx, spec) })
}

// Start implements container.Containers.
func (r *runtime) Start(ctx context.Context, id container.ID) error {
	return r.timed("start_container", func() error { return r.inner.Start(ctx, id) })
}

// Stop implements container.Containers.
func (r *runtime) Stop(ctx context.Context, id container.ID, grace time.Duration) error {
	return r.timed("stop_container", func() error { return r.inner.Stop(ctx, id, grace) })
}

// Remove implements container.Containers.
func (r *runtime) Remove(ctx context.Context, id container.ID) error {
	return r.timed("remove_container", func() error { return r.inner.Remove(ctx, id) })
}

// Exec implements container.Containers.
func (r *runtime) Exec(ctx context.Context, id container.ID, cmd container.ExecSpec) (code int, err error) {
	err = r.timed("exec", func() error {
		code, err = r.inner.Exec(ctx, id, cmd)
		return err
	})
	return code, err
}

// Attach implements container.Containers.
func (r *runtime) Attach(ctx context.Context, id container.ID, streams container.Streams) error {
	return r.timed("attach", func() error { return r.inner.Attach(ctx, id, streams) })
}

// Stats implements container.Observer.
func (r *runtime) Stats(ctx context.Context, pod types.UID) (all []container.Stats, err error) {
	err = r.timed("podsandbox_stats", func() error {
		all, err = r.inner.Stats(ctx, pod)
		return err
	})
	return all, err
}

// Subscribe implements container.Observer, and times the full lists. When one
// after a lost connection was begun is not known here; only its time counts.
func (r *runtime) Subscribe(ctx context.Context) <-chan container.Event {
	start, first := r.set.clock.Now(), true
	in, out := r.inner.Subscribe(ctx), make(chan container.Event)
	go func() {
		defer close(out)
		for event := range in {
			if event.Full != nil {
				r.set.fullList(start, first)
				first = false
			}
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
