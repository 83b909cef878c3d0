package containertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Fake is container.Runtime in memory. Commands it knows (see programs) behave
// as in busybox; any other command runs until it is stopped or a test calls
// Exit. It is safe for concurrent use.
type Fake struct {
	// StartError, when set, decides about each Start: a non-nil error fails it
	// (wrap container.ErrStart for what a runtime would report). Set before use.
	StartError func(container.Spec) error
	// OnExec, when set, runs instead of the known programs. Set before use.
	OnExec func(ctx context.Context, id container.ID, cmd container.ExecSpec) (int, error)
	// OnStop, when set, sees each Stop before it takes effect. Set before use.
	OnStop func(id container.ID, grace time.Duration)
	// Now is the clock; nil is time.Now. Set before use.
	Now func() time.Time

	mu          sync.Mutex // guards everything below
	sandboxes   map[types.UID]*fakeSandbox
	subscribers map[*subscriber]bool
	calls       []string
}

type fakeSandbox struct {
	spec       container.SandboxSpec
	created    time.Time
	containers map[container.ID]*fakeContainer
}

type fakeContainer struct {
	spec   container.Spec
	status container.Status
	stop   chan struct{} // closed to end the program
	exited chan struct{} // closed when the status is final
	output bytes.Buffer  // what was written so far, guarded by Fake.mu
	viewer map[io.Writer]bool
	stdin  *io.PipeWriter
}

// NewFake returns an empty Fake.
func NewFake() *Fake {
	return &Fake{sandboxes: map[types.UID]*fakeSandbox{}, subscribers: map[*subscriber]bool{}}
}

func (f *Fake) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

// Calls returns the calls so far, as "Create web/0", "EnsureSandbox uid".
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *Fake) record(verb string, id container.ID) {
	f.calls = append(f.calls, fmt.Sprintf("%s %s/%d", verb, id.Name, id.Attempt))
}

// Spec returns the spec a container was created with.
func (f *Fake) Spec(id container.ID) (container.Spec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		return c.spec, true
	}
	return container.Spec{}, false
}

// SandboxSpec returns the spec a sandbox was ensured with.
func (f *Fake) SandboxSpec(pod types.UID) (container.SandboxSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sb := f.sandboxes[pod]; sb != nil {
		return sb.spec, true
	}
	return container.SandboxSpec{}, false
}

// Status returns a container's status.
func (f *Fake) Status(id container.ID) (container.Status, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		return c.status, true
	}
	return container.Status{}, false
}

// Output returns what the container's process has written.
func (f *Fake) Output(id container.ID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		return c.output.String()
	}
	return ""
}

// Exit ends a running container with code, as if its process had exited.
func (f *Fake) Exit(id container.ID, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		f.finish(c, func(s *container.Status) { s.ExitCode = code })
	}
}

// OOM ends a running container as the kernel's OOM killer does.
func (f *Fake) OOM(id container.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		f.finish(c, func(s *container.Status) {
			s.ExitCode, s.Signal, s.OOMKilled, s.Reason = 137, 9, true, "OOMKilled"
		})
	}
}

// EnsureSandbox implements container.Sandboxes.
func (f *Fake) EnsureSandbox(_ context.Context, spec container.SandboxSpec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "EnsureSandbox "+string(spec.Pod))
	if f.sandboxes[spec.Pod] == nil {
		f.sandboxes[spec.Pod] = &fakeSandbox{spec: spec, created: f.now(), containers: map[container.ID]*fakeContainer{}}
	}
	return nil
}

// RemoveSandbox implements container.Sandboxes.
func (f *Fake) RemoveSandbox(_ context.Context, pod types.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "RemoveSandbox "+string(pod))
	if sb := f.sandboxes[pod]; sb != nil {
		for _, c := range sb.containers {
			f.finish(c, killed)
		}
		delete(f.sandboxes, pod)
	}
	return nil
}

// ListSandboxes implements container.Sandboxes.
func (f *Fake) ListSandboxes(context.Context) ([]container.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list(), nil
}

func (f *Fake) list() []container.Sandbox {
	all := []container.Sandbox{}
	for _, pod := range slices.Sorted(maps.Keys(f.sandboxes)) {
		sb := f.sandboxes[pod]
		one := container.Sandbox{Pod: pod, CreatedAt: sb.created}
		for _, c := range sb.containers {
			one.Containers = append(one.Containers, c.status)
		}
		slices.SortFunc(one.Containers, func(a, b container.Status) int {
			if n := strings.Compare(a.ID.Name, b.ID.Name); n != 0 {
				return n
			}
			return a.ID.Attempt - b.ID.Attempt
		})
		all = append(all, one)
	}
	return all
}

func (f *Fake) find(id container.ID) *fakeContainer {
	if sb := f.sandboxes[id.Pod]; sb != nil {
		return sb.containers[id]
	}
	return nil
}

// Create implements container.Containers.
func (f *Fake) Create(_ context.Context, spec container.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record("Create", spec.ID)
	sb := f.sandboxes[spec.ID.Pod]
	if sb == nil {
		return fmt.Errorf("create container %q: sandbox: %w", spec.ID.Name, container.ErrNotFound)
	}
	if sb.containers[spec.ID] != nil {
		return nil
	}
	if len(spec.Args) == 0 {
		return fmt.Errorf("%w: no command", container.ErrStart)
	}
	c := &fakeContainer{spec: spec, stop: make(chan struct{}), exited: make(chan struct{}), viewer: map[io.Writer]bool{}}
	c.status = container.Status{ID: spec.ID, State: container.Created, CreatedAt: f.now(),
		LogPath: spec.LogPath, Annotations: maps.Clone(spec.Annotations)}
	sb.containers[spec.ID] = c
	f.publish(c)
	return nil
}

// Start implements container.Containers.
func (f *Fake) Start(_ context.Context, id container.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record("Start", id)
	c := f.find(id)
	if c == nil {
		return fmt.Errorf("start container %q: %w", id.Name, container.ErrNotFound)
	}
	if c.status.State != container.Created {
		return nil
	}
	if err := f.startError(c.spec); err != nil {
		c.status.State = container.Running // so that finish takes it
		f.finish(c, func(s *container.Status) {
			s.ExitCode, s.Reason, s.Message, s.StartedAt = 128, "StartError", err.Error(), time.Time{}
		})
		return err
	}
	c.status.State, c.status.StartedAt, c.status.PID = container.Running, f.now(), 1000+len(f.calls)
	f.publish(c)
	streams := container.Streams{Stdout: fakeOutput{f, c}, Stderr: fakeOutput{f, c}}
	if c.spec.Stdin {
		streams.Stdin, c.stdin = io.Pipe()
	}
	go f.run(c, programs[c.spec.Args[0]], streams)
	return nil
}

func (f *Fake) startError(spec container.Spec) error {
	if f.StartError != nil {
		if err := f.StartError(spec); err != nil {
			return err
		}
	}
	if strings.Contains(path.Base(spec.Args[0]), "no-such") {
		return fmt.Errorf("%w: exec: %q: no such file or directory", container.ErrStart, spec.Args[0])
	}
	return nil
}

func (f *Fake) run(c *fakeContainer, program Program, streams container.Streams) {
	if program == nil {
		program = sleepProgram
	}
	code := program(c.stop, c.spec.Args, streams)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finish(c, func(s *container.Status) { s.ExitCode = code })
}

// fakeOutput is a process's stdout: kept, and shown to who is attached.
type fakeOutput struct {
	f *Fake
	c *fakeContainer
}

func (o fakeOutput) Write(p []byte) (int, error) {
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	o.c.output.Write(p)
	for w := range o.c.viewer {
		if _, err := w.Write(p); err != nil {
			delete(o.c.viewer, w)
		}
	}
	return len(p), nil
}

func killed(s *container.Status) { s.ExitCode, s.Signal = 137, 9 }

// finish makes the status final; the first call for a container counts.
func (f *Fake) finish(c *fakeContainer, set func(*container.Status)) {
	if c.status.State == container.Exited {
		return
	}
	set(&c.status)
	c.status.State, c.status.FinishedAt, c.status.PID = container.Exited, f.now(), 0
	if c.status.Reason == "" {
		c.status.Reason = "Completed"
		if c.status.ExitCode != 0 {
			c.status.Reason = "Error"
		}
	}
	close(c.exited)
	close(c.stop)
	f.publish(c)
}

// Stop implements container.Containers. A Fake's process heeds the first
// signal: it ends with 143 whatever grace is; with no grace, with 137.
func (f *Fake) Stop(_ context.Context, id container.ID, grace time.Duration) error {
	if f.OnStop != nil {
		f.OnStop(id, grace)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record("Stop", id)
	c := f.find(id)
	if c == nil {
		return nil
	}
	end := killed
	if grace > 0 {
		end = func(s *container.Status) { s.ExitCode, s.Signal = 143, 15 }
	}
	f.finish(c, end)
	return nil
}

// Remove implements container.Containers.
func (f *Fake) Remove(_ context.Context, id container.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record("Remove", id)
	if c := f.find(id); c != nil {
		f.finish(c, killed)
		delete(f.sandboxes[id.Pod].containers, id)
	}
	return nil
}

func (f *Fake) running(verb string, id container.ID) (*fakeContainer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record(verb, id)
	c := f.find(id)
	switch {
	case c == nil:
		return nil, fmt.Errorf("container %q: %w", id.Name, container.ErrNotFound)
	case c.status.State != container.Running:
		return nil, fmt.Errorf("container %q: %w", id.Name, container.ErrNotRunning)
	}
	return c, nil
}

// Exec implements container.Containers.
func (f *Fake) Exec(ctx context.Context, id container.ID, cmd container.ExecSpec) (int, error) {
	c, err := f.running("Exec", id)
	if err != nil {
		return 0, err
	}
	if f.OnExec != nil {
		return f.OnExec(ctx, id, cmd)
	}
	if len(cmd.Args) == 0 || strings.Contains(cmd.Args[0], "no-such") {
		return 0, fmt.Errorf("%w: exec: %q: no such file or directory", container.ErrStart, cmd.Args)
	}
	program := programs[cmd.Args[0]]
	if program == nil {
		program = sleepProgram
	}
	stop := make(chan struct{})
	code := make(chan int, 1)
	go func() { code <- program(stop, cmd.Args, cmd.Streams) }()
	select {
	case n := <-code:
		return n, nil
	case <-ctx.Done():
		close(stop)
		<-code
		return 0, ctx.Err()
	case <-c.exited:
		close(stop)
		<-code
		return 137, nil
	}
}

// Attach implements container.Containers.
func (f *Fake) Attach(ctx context.Context, id container.ID, streams container.Streams) error {
	c, err := f.running("Attach", id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	if streams.Stdout != nil {
		c.viewer[streams.Stdout] = true
	}
	stdin := c.stdin
	f.mu.Unlock()
	if streams.Stdin != nil && stdin != nil {
		go func() {
			_, err := io.Copy(stdin, streams.Stdin)
			if c.spec.StdinOnce {
				_ = stdin.CloseWithError(errors.Join(err)) // nil is EOF; never fails
			}
		}()
	}
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(c.viewer, streams.Stdout)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.exited:
		return nil
	}
}
