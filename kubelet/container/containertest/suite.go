package containertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Fixture is an implementation under test.
type Fixture struct {
	Runtime container.Runtime
	// Sandbox completes a spec with what the implementation needs (a cgroup).
	Sandbox func(t *testing.T, spec container.SandboxSpec) container.SandboxSpec
	// Rootfs is a root directory with busybox, and its applets in /bin.
	Rootfs string
	// Reopen is the runtime as the kubelet finds it after its restart.
	Reopen func(t *testing.T) container.Runtime
}

// Suite tests the contract. make is called for each test.
func Suite(t *testing.T, make func(t *testing.T) Fixture) {
	for name, test := range map[string]func(*testing.T, *Bench){
		"ensure and remove are idempotent": testIdempotence,
		"life of a container":              testLife,
		"exit codes":                       testExitCodes,
		"start error":                      testStartError,
		"unknown containers":               testUnknown,
		"stop":                             testStop,
		"remove kills":                     testRemoveKills,
		"exec":                             testExec,
		"exec streams":                     testExecStreams,
		"exec ends with its context":       testExecCancel,
		"attach":                           testAttach,
		"events start with a list":         testEvents,
		"a restart of the kubelet":         testRestart,
		"remove sandbox":                   testRemoveSandbox,
		"stats":                            testStats,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, NewBench(t, make(t)))
		})
	}
}

// Bench is a sandbox with containers in it, for one test.
type Bench struct {
	Fixture
	T   *testing.T
	Ctx context.Context
	Pod types.UID
	Dir string // for logs
}

// NewBench ensures a sandbox that the test's end removes.
func NewBench(t *testing.T, f Fixture) *Bench {
	return NewBenchWith(t, f, container.SandboxSpec{})
}

// NewBenchWith is NewBench with a sandbox of the test's choice; identity and
// host name are filled in.
func NewBenchWith(t *testing.T, f Fixture, spec container.SandboxSpec) *Bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*patience)
	t.Cleanup(cancel)
	b := &Bench{Fixture: f, T: t, Ctx: ctx, Dir: t.TempDir()}
	b.Pod = types.UID("uid-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(filepath.Base(t.Name()))))
	spec.Pod, spec.Namespace, spec.Name = b.Pod, "default", "web"
	if spec.Hostname == "" {
		spec.Hostname = "web"
	}
	spec = f.Sandbox(t, spec)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if err := f.Runtime.RemoveSandbox(ctx, b.Pod); err != nil {
			t.Errorf("remove sandbox: %v", err)
		}
	})
	b.Must(f.Runtime.EnsureSandbox(ctx, spec))
	return b
}

// Must ends the test at an error.
func (b *Bench) Must(err error) {
	b.T.Helper()
	if err != nil {
		b.T.Fatal(err)
	}
}

// Spec of a container that runs a command as root.
func (b *Bench) Spec(name string, args ...string) container.Spec {
	return container.Spec{
		ID: container.ID{Pod: b.Pod, Name: name}, Rootfs: b.Rootfs, Args: args,
		Security: container.Security{
			Capabilities: container.DefaultCapabilities(),
			MaskedPaths:  container.DefaultMaskedPaths(), ReadonlyPaths: container.DefaultReadonlyPaths(),
		},
		LogPath: filepath.Join(b.Dir, name+".log"),
	}
}

// Start creates and starts a container.
func (b *Bench) Start(spec container.Spec) container.ID {
	b.T.Helper()
	b.Must(b.Runtime.Create(b.Ctx, spec))
	b.Must(b.Runtime.Start(b.Ctx, spec.ID))
	return spec.ID
}

// Status of a container in the list; false if it is not there.
func (b *Bench) Status(id container.ID) (container.Status, bool) {
	b.T.Helper()
	all, err := b.Runtime.ListSandboxes(b.Ctx)
	b.Must(err)
	for _, sb := range all {
		for _, s := range sb.Containers {
			if s.ID == id {
				return s, true
			}
		}
	}
	return container.Status{}, false
}

// State of a container; "" if it is not there.
func (b *Bench) State(id container.ID) container.State {
	b.T.Helper()
	s, _ := b.Status(id)
	return s.State
}

// Await returns the status once the container has exited.
func (b *Bench) Await(id container.ID) container.Status {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.Ctx, patience)
	defer cancel()
	s, ok := WaitFor(ctx, b.Runtime.Subscribe(ctx), func(s container.Status) bool {
		return s.ID == id && s.State == container.Exited
	})
	if !ok {
		now, _ := b.Status(id)
		b.T.Fatalf("container %s did not exit; it is %+v", id.Name, now)
	}
	return s
}

// Answers waits until a container that echoes its input does.
func (b *Bench) Answers(id container.ID) {
	b.T.Helper()
	ctx, cancel := context.WithCancel(b.Ctx)
	defer cancel()
	in, question := io.Pipe()
	answer, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- b.Runtime.Attach(ctx, id, container.Streams{Stdin: in, Stdout: out}) }()
	if _, err := io.WriteString(question, "ready?\n"); err != nil {
		b.T.Fatal(err)
	}
	if _, err := io.ReadFull(answer, make([]byte, len("ready?\n"))); err != nil {
		b.T.Fatal(err)
	}
	cancel()
	question.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		b.T.Errorf("attach: %v", err)
	}
}

func testIdempotence(t *testing.T, b *Bench) {
	spec := b.Sandbox(t, container.SandboxSpec{Pod: b.Pod, Namespace: "default", Name: "web", Hostname: "web"})
	b.Must(b.Runtime.EnsureSandbox(b.Ctx, spec))
	c := b.Spec("main", "/bin/sleep", "1000")
	for range 2 {
		b.Must(b.Runtime.Create(b.Ctx, c))
	}
	for range 2 {
		b.Must(b.Runtime.Start(b.Ctx, c.ID))
	}
	before, _ := b.Status(c.ID)
	b.Must(b.Runtime.Create(b.Ctx, c))
	if after, _ := b.Status(c.ID); after.PID != before.PID || after.State != container.Running {
		t.Errorf("a repeated Create changed the container: %+v, was %+v", after, before)
	}
	for range 2 {
		b.Must(b.Runtime.Stop(b.Ctx, c.ID, 0))
	}
	for range 2 {
		b.Must(b.Runtime.Remove(b.Ctx, c.ID))
	}
	for range 2 {
		b.Must(b.Runtime.RemoveSandbox(b.Ctx, b.Pod))
	}
}

func testLife(t *testing.T, b *Bench) {
	spec := b.Spec("main", "/bin/sleep", "1000")
	spec.Annotations = map[string]string{"image": "busybox"}
	b.Must(b.Runtime.Create(b.Ctx, spec))
	s, ok := b.Status(spec.ID)
	if !ok || s.State != container.Created || s.PID != 0 || s.CreatedAt.IsZero() || s.Annotations["image"] != "busybox" {
		t.Errorf("after Create: %+v", s)
	}
	b.Must(b.Runtime.Start(b.Ctx, spec.ID))
	if s, _ = b.Status(spec.ID); s.State != container.Running || s.PID == 0 || s.StartedAt.IsZero() || s.LogPath != spec.LogPath {
		t.Errorf("after Start: %+v", s)
	}
	b.Must(b.Runtime.Stop(b.Ctx, spec.ID, 0))
	if s, _ = b.Status(spec.ID); s.State != container.Exited || s.ExitCode != 137 || s.Signal != 9 || s.PID != 0 ||
		s.FinishedAt.Before(s.StartedAt) || s.Reason != "Error" || s.OOMKilled {
		t.Errorf("after Stop: %+v", s)
	}
	next := spec
	next.ID.Attempt = 1
	b.Start(next)
	if s, _ = b.Status(next.ID); s.State != container.Running {
		t.Errorf("the next attempt: %+v", s)
	}
	if s, _ = b.Status(spec.ID); s.State != container.Exited {
		t.Errorf("the attempt before it: %+v", s)
	}
	b.Must(b.Runtime.Remove(b.Ctx, spec.ID))
	if _, ok = b.Status(spec.ID); ok {
		t.Error("the container is listed after Remove")
	}
}

func testExitCodes(t *testing.T, b *Bench) {
	for name, want := range map[string]container.Status{
		"zero":  {ExitCode: 0, Reason: "Completed"},
		"three": {ExitCode: 3, Reason: "Error"},
	} {
		id := b.Start(b.Spec(name, "/bin/sh", "-c", "exit "+map[string]string{"zero": "0", "three": "3"}[name]))
		if s := b.Await(id); s.ExitCode != want.ExitCode || s.Reason != want.Reason || s.Signal != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func testStartError(t *testing.T, b *Bench) {
	spec := b.Spec("main", "/bin/no-such-command")
	b.Must(b.Runtime.Create(b.Ctx, spec))
	err := b.Runtime.Start(b.Ctx, spec.ID)
	if !errors.Is(err, container.ErrStart) || !strings.Contains(err.Error(), "no such file or directory") ||
		!strings.Contains(err.Error(), "/bin/no-such-command") {
		t.Errorf("error %v", err)
	}
	s := b.Await(spec.ID)
	if s.ExitCode != 128 || s.Reason != "StartError" || !strings.Contains(s.Message, "no such file or directory") || !s.StartedAt.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func testUnknown(t *testing.T, b *Bench) {
	id := container.ID{Pod: b.Pod, Name: "nobody"}
	elsewhere := container.ID{Pod: "uid-of-nothing", Name: "nobody"}
	for _, id := range []container.ID{id, elsewhere} {
		if err := b.Runtime.Start(b.Ctx, id); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("Start: %v", err)
		}
		if _, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{Args: []string{"/bin/true"}}); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("Exec: %v", err)
		}
		if err := b.Runtime.Attach(b.Ctx, id, container.Streams{}); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("Attach: %v", err)
		}
		b.Must(b.Runtime.Stop(b.Ctx, id, time.Second))
		b.Must(b.Runtime.Remove(b.Ctx, id))
	}
	spec := b.Spec("main", "/bin/true")
	spec.ID.Pod = elsewhere.Pod
	if err := b.Runtime.Create(b.Ctx, spec); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("Create without a sandbox: %v", err)
	}
	b.Must(b.Runtime.RemoveSandbox(b.Ctx, elsewhere.Pod))
	done := b.Start(b.Spec("done", "/bin/true"))
	b.Await(done)
	if _, err := b.Runtime.Exec(b.Ctx, done, container.ExecSpec{Args: []string{"/bin/true"}}); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("Exec after the end: %v", err)
	}
	if err := b.Runtime.Attach(b.Ctx, done, container.Streams{}); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("Attach after the end: %v", err)
	}
}

func testStop(t *testing.T, b *Bench) {
	created := b.Spec("created", "/bin/sleep", "1000")
	b.Must(b.Runtime.Create(b.Ctx, created))
	b.Must(b.Runtime.Stop(b.Ctx, created.ID, time.Hour))
	if s, _ := b.Status(created.ID); s.State != container.Exited {
		t.Errorf("stopped before its start: %+v", s)
	}
	// A shell with a trap heeds SIGTERM, so an hour's grace is not used up. It
	// must have set the trap, so it is asked first.
	spec := b.Spec("polite", "/bin/sh", "-c", "trap 'exit 143' TERM; while read line; do echo $line; done")
	spec.Stdin = true
	polite := b.Start(spec)
	b.Answers(polite)
	b.Must(b.Runtime.Stop(b.Ctx, polite, time.Hour))
	if s, _ := b.Status(polite); s.State != container.Exited || s.ExitCode != 143 {
		t.Errorf("stopped with grace: %+v", s)
	}
}

func testRemoveKills(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	b.Must(b.Runtime.Remove(b.Ctx, id))
	if _, there := b.Status(id); there {
		t.Error("it is still listed")
	}
}

func testExec(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	for _, want := range []int{0, 7} {
		script := map[int]string{0: "exit 0", 7: "exit 7"}[want]
		got, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{Args: []string{"/bin/sh", "-c", script}})
		if err != nil || got != want {
			t.Errorf("%s: code %d, error %v", script, got, err)
		}
	}
	if _, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{Args: []string{"/bin/no-such-command"}}); !errors.Is(err, container.ErrStart) {
		t.Errorf("no such command: %v", err)
	}
}

func testExecStreams(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	var out, serr bytes.Buffer
	code, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{
		Args:    []string{"/bin/sh", "-c", "echo to out; echo to err >&2"},
		Streams: container.Streams{Stdout: &out, Stderr: &serr},
	})
	if err != nil || code != 0 || out.String() != "to out\n" || serr.String() != "to err\n" {
		t.Errorf("code %d, error %v, stdout %q, stderr %q", code, err, out.String(), serr.String())
	}
	out.Reset()
	input := strings.Repeat("a line of input\n", 20_000)
	code, err = b.Runtime.Exec(b.Ctx, id, container.ExecSpec{
		Args:    []string{"/bin/cat"},
		Streams: container.Streams{Stdin: strings.NewReader(input), Stdout: &out},
	})
	if err != nil || code != 0 || out.String() != input {
		t.Errorf("cat: code %d, error %v, %d of %d bytes", code, err, out.Len(), len(input))
	}
}

func testExecCancel(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	ctx, cancel := context.WithCancel(b.Ctx)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := b.Runtime.Exec(ctx, id, container.ExecSpec{
			Args:    []string{"/bin/sh", "-c", "echo started; sleep 1000"},
			Streams: container.Streams{Stdout: w},
		})
		ended <- err
	}()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if s, _ := b.Status(id); s.State != container.Running {
		t.Errorf("the container: %+v", s)
	}
}

func testAttach(t *testing.T, b *Bench) {
	spec := b.Spec("main", "/bin/cat")
	spec.Stdin, spec.StdinOnce = true, true
	id := b.Start(spec)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- b.Runtime.Attach(b.Ctx, id, container.Streams{Stdin: strings.NewReader("hello\n"), Stdout: w})
		w.Close()
	}()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "hello\n" {
		t.Errorf("read %q, error %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Attach: %v", err)
	}
	if s := b.Await(id); s.ExitCode != 0 {
		t.Errorf("after its stdin ended: %+v", s)
	}
}

func testEvents(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	ctx, cancel := context.WithCancel(b.Ctx)
	events := b.Runtime.Subscribe(ctx)
	first := <-events
	if first.Full == nil {
		t.Fatalf("the first event is %+v", first)
	}
	listed := false
	for _, sb := range first.Full {
		for _, s := range sb.Containers {
			listed = listed || s.ID == id && s.State == container.Running
		}
	}
	if !listed {
		t.Errorf("the list lacks the container: %+v", first.Full)
	}
	b.Must(b.Runtime.Stop(b.Ctx, id, 0))
	s, ok := WaitFor(ctx, events, func(s container.Status) bool { return s.ID == id && s.State == container.Exited })
	if !ok || s.ExitCode != 137 {
		t.Errorf("exit event: %v, %+v", ok, s)
	}
	cancel()
	for range events { // must be closed
	}
}

func testRestart(t *testing.T, b *Bench) {
	running := b.Start(b.Spec("running", "/bin/sleep", "1000"))
	done := b.Start(b.Spec("done", "/bin/sh", "-c", "exit 5"))
	b.Await(done)
	before, _ := b.Status(running)
	again := *b
	again.Runtime = b.Reopen(t)
	if after, _ := again.Status(running); after.State != container.Running || after.PID != before.PID {
		t.Errorf("the running container was %+v, is %+v", before, after)
	}
	if s, _ := again.Status(done); s.State != container.Exited || s.ExitCode != 5 {
		t.Errorf("the other one: %+v", s)
	}
	if code, err := again.Runtime.Exec(b.Ctx, running, container.ExecSpec{Args: []string{"/bin/true"}}); err != nil || code != 0 {
		t.Errorf("exec: code %d, error %v", code, err)
	}
	again.Must(again.Runtime.Stop(b.Ctx, running, 0))
	if s := again.Await(running); s.ExitCode != 137 {
		t.Errorf("stopped after the restart: %+v", s)
	}
}

func testRemoveSandbox(t *testing.T, b *Bench) {
	b.Start(b.Spec("one", "/bin/sleep", "1000"))
	b.Start(b.Spec("two", "/bin/sleep", "1000"))
	b.Must(b.Runtime.RemoveSandbox(b.Ctx, b.Pod))
	all, err := b.Runtime.ListSandboxes(b.Ctx)
	b.Must(err)
	for _, sb := range all {
		if sb.Pod == b.Pod {
			t.Errorf("it is still listed: %+v", sb)
		}
	}
}

func testStats(t *testing.T, b *Bench) {
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	stats, err := b.Runtime.Stats(b.Ctx, b.Pod)
	b.Must(err)
	seen := map[container.ID]bool{}
	for _, s := range stats {
		seen[s.ID] = true
		if s.At.IsZero() || s.Pids == 0 || s.MemoryUsageBytes == 0 || s.MemoryWorkingSetBytes > s.MemoryUsageBytes {
			t.Errorf("stats %+v", s)
		}
	}
	if !seen[id] || !seen[container.ID{Pod: b.Pod}] || len(seen) != 2 {
		t.Errorf("stats of %v", seen)
	}
	if _, err := b.Runtime.Stats(b.Ctx, "uid-of-nothing"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("stats of no sandbox: %v", err)
	}
}
