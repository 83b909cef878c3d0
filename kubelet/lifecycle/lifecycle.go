// Package lifecycle is what happens to a Pod on its node around its
// containers: an ordered list of hooks (registry.go) that make a Pod ready to
// run, follow its changes, and take it down in reverse order. It also turns a
// container of a Pod into a container.Spec and starts and stops it.
//
// kubelet/podworker decides what to do and calls this package; this package
// calls the container runtime by its contract, and the network, volumes,
// images, cgroups, environment and probes by the small interfaces of edge.go,
// which app/ fills. It starts no goroutines.
package lifecycle

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Pod is one Pod in the hands of the hooks. API is read-only; the rest is
// filled by the hooks' Prepare, in their order, for the hooks after them.
type Pod struct {
	API *corev1.Pod
	// Dir is the Pod's directory under the kubelet's root: pods/<uid>.
	Dir string
	// LogDir holds the containers' logs: <namespace>_<name>_<uid>.
	LogDir string
	// CgroupParent is the Pod's cgroup, relative to the hierarchy roots.
	CgroupParent string
	// NetNS is the path of the Pod's network namespace; "" is the host's.
	NetNS string
	// IPs are the Pod's addresses, the first is podIP; the node's addresses
	// for a host network Pod.
	IPs []string
	// HostIPs are the node's addresses.
	HostIPs []string
	// Hostname inside the Pod.
	Hostname string
}

// UID of the Pod.
func (p *Pod) UID() types.UID { return p.API.UID }

// Hook is one part of a Pod's life on the node. It implements any of
// Preparer, Starter, Updater, Stopper and Cleaner. Every method may run again
// after a crash and then succeeds on finished work.
type Hook interface {
	// Name is for logs and errors.
	Name() string
}

// Preparer readies the node for the Pod's containers. Prepare is called in
// list order before the first container and again after a kubelet restart or
// an earlier failure. A *Failure names the event to show.
type Preparer interface {
	Prepare(ctx context.Context, pod *Pod) error
}

// Starter is told of a container that runs, once for each and again after a
// kubelet restart.
type Starter interface {
	Started(ctx context.Context, pod *Pod, status container.Status) error
}

// Updater is told of a change of the Pod's object.
type Updater interface {
	Update(ctx context.Context, pod *Pod) error
}

// Stopper is called in reverse order before the Pod's containers are stopped.
type Stopper interface {
	Stop(ctx context.Context, pod *Pod) error
}

// Cleaner removes everything Prepare made, in reverse order, once no
// container runs. It knows only the UID, since it must work for Pods of which
// nothing but leftovers exist, and may be called without Prepare.
type Cleaner interface {
	Cleanup(ctx context.Context, uid types.UID) error
}

// Errors that hooks and starts are told apart by.
var (
	// ErrConfig: the container's configuration cannot be made from what the
	// cluster holds (missing Secret, bad key): CreateContainerConfigError.
	ErrConfig = errors.New("container configuration")
	// ErrRejected: the node cannot take the Pod; it ends as Failed.
	ErrRejected = errors.New("pod rejected")
)

// Rejection is why the node does not take a Pod; it is ErrRejected.
type Rejection struct {
	// Reason is for status.reason ("OutOfcpu"), Message for people.
	Reason, Message string
}

// Error is the message.
func (r *Rejection) Error() string { return r.Message }

// Is makes a Rejection an ErrRejected.
func (r *Rejection) Is(target error) bool { return target == ErrRejected }

// Failure is an error of a hook together with the event that tells the user.
type Failure struct {
	// Reason of the event ("FailedMount", "FailedCreatePodSandBox").
	Reason string
	// Message of the event; the error's text when "".
	Message string
	Err     error
}

// Error is the underlying error with the reason in front.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }

// Unwrap returns the underlying error.
func (f *Failure) Unwrap() error { return f.Err }

// Chain is a list of hooks in order.
type Chain []Hook

// Prepare runs all Preparers in order, until one fails.
func (c Chain) Prepare(ctx context.Context, pod *Pod) error {
	for _, hook := range c {
		if h, ok := hook.(Preparer); ok {
			if err := h.Prepare(ctx, pod); err != nil {
				return fmt.Errorf("prepare %s: %w", hook.Name(), err)
			}
		}
	}
	return nil
}

// Started tells all Starters.
func (c Chain) Started(ctx context.Context, pod *Pod, status container.Status) error {
	var errs []error
	for _, hook := range c {
		if h, ok := hook.(Starter); ok {
			if err := h.Started(ctx, pod, status); err != nil {
				errs = append(errs, fmt.Errorf("follow start in %s: %w", hook.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// Update tells all Updaters.
func (c Chain) Update(ctx context.Context, pod *Pod) error {
	var errs []error
	for _, hook := range c {
		if h, ok := hook.(Updater); ok {
			if err := h.Update(ctx, pod); err != nil {
				errs = append(errs, fmt.Errorf("update %s: %w", hook.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// Stop calls all Stoppers in reverse order; one failing does not stop the others.
func (c Chain) Stop(ctx context.Context, pod *Pod) error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		if h, ok := c[i].(Stopper); ok {
			if err := h.Stop(ctx, pod); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", c[i].Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// Cleanup calls all Cleaners in reverse order and stops at the first that
// fails: what is below it may still be in use.
func (c Chain) Cleanup(ctx context.Context, uid types.UID) error {
	for i := len(c) - 1; i >= 0; i-- {
		if h, ok := c[i].(Cleaner); ok {
			if err := h.Cleanup(ctx, uid); err != nil {
				return fmt.Errorf("clean up %s: %w", c[i].Name(), err)
			}
		}
	}
	return nil
}
