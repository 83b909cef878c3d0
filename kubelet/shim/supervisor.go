package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
	"github.com/skeg-dev/skeg/kubelet/shim/runc"
)

// supervisor owns a Pod's containers.
type supervisor struct {
	dir     record.Dir
	sandbox container.SandboxSpec
	ns      *namespaces
	reaper  *reaper
	hub     *hub

	mu    sync.Mutex
	tasks map[container.ID]*task // guarded by mu
}

// newSupervisor takes over a directory: its sandbox, and the containers an
// earlier shim left, which do not run any more.
func newSupervisor(dir record.Dir) (*supervisor, error) {
	sb, err := dir.Sandbox()
	if err != nil {
		return nil, err
	}
	sv := &supervisor{dir: dir, sandbox: sb.Spec, hub: newHub(), tasks: map[container.ID]*task{}}
	statuses, err := dir.Statuses()
	if err != nil {
		return nil, err
	}
	for _, s := range statuses {
		if s.State == container.Running {
			return nil, fmt.Errorf("take over container %q: its end was not recorded", s.ID.Name)
		}
		spec, err := dir.Spec(s.ID)
		if err != nil {
			return nil, err
		}
		sv.tasks[s.ID] = newTask(sv, spec, s)
	}
	if sv.reaper, err = newReaper(); err != nil {
		return nil, err
	}
	go sv.reaper.run()
	err = sv.reaper.start(func() (int, error) {
		if sv.ns, err = newNamespaces(dir, sb.Spec); err != nil || sv.ns.pause == nil {
			return 0, err
		}
		return sv.ns.pause.cmd.Process.Pid, nil
	})
	return sv, err
}

// namespacesFor are the sandbox's, with the PID namespace of another container
// if the spec asks for it.
func (sv *supervisor) namespacesFor(spec container.Spec) (runc.Namespaces, error) {
	paths := sv.ns.paths
	if spec.TargetPID == "" || paths.HostPID || paths.PID != "" {
		return paths, nil
	}
	for _, s := range sv.statuses() {
		if s.ID.Name == spec.TargetPID && s.State == container.Running {
			paths.PID = fmt.Sprintf("/proc/%d/ns/pid", s.PID)
			return paths, nil
		}
	}
	return paths, fmt.Errorf("%w: target container %q is not running", container.ErrStart, spec.TargetPID)
}

func (sv *supervisor) task(id container.ID) *task {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return sv.tasks[id]
}

// statuses of all containers, by name and attempt.
func (sv *supervisor) statuses() []container.Status {
	sv.mu.Lock()
	var all []container.Status
	for _, t := range sv.tasks {
		all = append(all, t.snapshot())
	}
	sv.mu.Unlock()
	slices.SortFunc(all, func(a, b container.Status) int {
		if n := strings.Compare(a.ID.Name, b.ID.Name); n != 0 {
			return n
		}
		return a.ID.Attempt - b.ID.Attempt
	})
	return all
}

func (sv *supervisor) create(spec container.Spec) error {
	if !record.ValidName(spec.ID.Name) || spec.ID.Attempt < 0 || spec.ID.Pod != sv.sandbox.Pod {
		return fmt.Errorf("create container %q: not a valid identity", spec.ID.Name)
	}
	if len(spec.Args) == 0 {
		return fmt.Errorf("%w: no command", container.ErrStart)
	}
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.tasks[spec.ID] != nil {
		return nil
	}
	status := container.Status{ID: spec.ID, State: container.Created, CreatedAt: time.Now(),
		LogPath: spec.LogPath, Annotations: spec.Annotations}
	if err := sv.dir.Create(spec, status); err != nil {
		return err
	}
	sv.tasks[spec.ID] = newTask(sv, spec, status)
	sv.hub.publish(status)
	return nil
}

// remove kills a container if it runs and forgets it.
func (sv *supervisor) remove(id container.ID) error {
	t := sv.task(id)
	if t == nil {
		return sv.dir.Remove(id) // of a creation that was cut short
	}
	if err := t.stop(0); err != nil {
		return err
	}
	t.op.Lock()
	defer t.op.Unlock()
	if err := sv.dir.Remove(id); err != nil {
		return err
	}
	sv.mu.Lock()
	delete(sv.tasks, id)
	sv.mu.Unlock()
	return nil
}

// shutdown ends all containers; their ends are on record when it returns.
func (sv *supervisor) shutdown() error {
	sv.mu.Lock()
	var all []*task
	for _, t := range sv.tasks {
		all = append(all, t)
	}
	sv.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() { errs[i] = t.stop(0) })
	}
	wg.Wait()
	if sv.ns.pause != nil {
		errs = append(errs, sv.ns.pause.hold.Close())
	}
	slog.Info("shut down", "containers", len(all))
	return errors.Join(errs...)
}
