package shimclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/containertest"
)

// sh makes the spec of a container that runs a script.
func sh(b *containertest.Bench, name, script string) container.Spec {
	return b.Spec(name, "/bin/sh", "-c", script)
}

// output runs a container to its end and returns what its log has, without the
// format's prefix.
func output(t *testing.T, b *containertest.Bench, spec container.Spec) string {
	t.Helper()
	s := b.Await(b.Start(spec))
	lines := logLines(t, spec.LogPath)
	var text []string
	for _, l := range lines {
		text = append(text, l.text)
	}
	if s.ExitCode != 0 {
		t.Errorf("exit code %d, output %q", s.ExitCode, text)
	}
	return strings.Join(text, "\n")
}

type logLine struct{ stream, tag, text string }

var logFormat = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z (stdout|stderr) ([FP]) (.*)$`)

func logLines(t *testing.T, path string) []logLine {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []logLine
	for line := range strings.Lines(string(b)) {
		m := logFormat.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("not a CRI log line: %q", line)
		}
		all = append(all, logLine{m[2], m[3], m[4]})
	}
	return all
}

// eventually waits for a state that no event announces.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("not in a minute: %s", what)
		case <-tick.C:
		}
	}
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "main", `id -u; id -g; id -G; hostname; echo $HOSTNAME $A; echo $PATH | grep -c /usr/bin
		grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; readlink /proc/self/cwd
		echo x > /file 2>/dev/null && echo writable; cat /proc/kcore 2>/dev/null | head -c 1; echo 1 > /proc/sys/kernel/sysrq 2>/dev/null && echo sysctl
		ls /proc | grep -c '^[0-9]*$'`)
	spec.Env = []string{"A=b"}
	spec.WorkingDir = "/tmp"
	spec.Security.UID, spec.Security.GID, spec.Security.AdditionalGroups = 1000, 1001, []int64{1002}
	spec.Security.Capabilities = []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"}
	spec.Security.NoNewPrivileges = true
	spec.Security.ReadOnlyRoot = true
	spec.Security.SeccompProfile = "runtime/default"
	got := output(t, b, spec)
	for _, want := range []string{"1000\n1001\n1001 1002\nweb\nweb b\n1\n", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "/tmp\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	for _, bad := range []string{"writable", "sysctl"} {
		if strings.Contains(got, bad) {
			t.Errorf("it could: %s", bad)
		}
	}
	root := sh(b, "root", `grep CapEff: /proc/self/status`)
	root.Security.Capabilities = []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"}
	if got := output(t, b, root); got != "CapEff:\t0000000000000401" {
		t.Errorf("root has %q", got)
	}
}

func TestSeccompProfiles(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	file := filepath.Join(t.TempDir(), "profile.json")
	profile := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := sh(b, "main", `busybox mkdir /tmp/x-seccomp 2>&1 || true`)
	spec.Security.SeccompProfile = "localhost/" + file
	if got := output(t, b, spec); !strings.Contains(got, "Operation not permitted") {
		t.Errorf("mkdir said %q", got)
	}
	bad := sh(b, "bad", "true")
	bad.Security.SeccompProfile = "localhost/" + file + ".missing"
	b.Must(b.Runtime.Create(b.Ctx, bad))
	if err := b.Runtime.Start(b.Ctx, bad.ID); !errors.Is(err, container.ErrStart) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a profile that is not there: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	missingMount := sh(b, "mount", "true")
	missingMount.Mounts = []container.Mount{{Source: "/no/such/source", Target: "/mnt"}}
	noRoot := sh(b, "root", "true")
	noRoot.Rootfs = "/no/such/rootfs"
	for name, test := range map[string]struct {
		spec container.Spec
		text string
	}{
		"permission": {b.Spec("permission", "/bin/not-allowed"), `exec: "/bin/not-allowed": permission denied`},
		"in path":    {b.Spec("path", "no-such-command"), `exec: "no-such-command": executable file not found in $PATH`},
		"directory":  {b.Spec("directory", "/etc"), `exec: "/etc": is a directory`},
		"mount":      {missingMount, "/no/such/source"},
		"root":       {noRoot, "/no/such/rootfs"},
	} {
		b.Must(b.Runtime.Create(b.Ctx, test.spec))
		err := b.Runtime.Start(b.Ctx, test.spec.ID)
		if !errors.Is(err, container.ErrStart) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
		if s, _ := b.Status(test.spec.ID); s.ExitCode != 128 || s.Reason != "StartError" || !strings.Contains(s.Message, test.text) {
			t.Errorf("%s: %+v", name, s)
		}
		if left, err := tree.Processes(filepath.Join(tree.Pod(b.Pod, cgroup.Burstable), name+"_0")); err != nil || len(left) > 0 {
			t.Errorf("%s: processes %v are left, %v", name, left, err)
		}
	}
	// As with every runtime, this one is found out by the kernel, too late for
	// an error: the log says it.
	format := b.Spec("format", "/bin/not-a-binary")
	s := b.Await(b.Start(format))
	if lines := logLines(t, format.LogPath); s.ExitCode == 0 || len(lines) != 1 || !strings.Contains(lines[0].text, "exec format error") {
		t.Errorf("exec format: %+v, log %v", s, lines)
	}
}

func TestOOM(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := b.Spec("main", "/bin/tail", "/dev/zero")
	spec.Resources.MemoryLimitBytes = 16 << 20
	if s := b.Await(b.Start(spec)); !s.OOMKilled || s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("status %+v", s)
	}
	child := sh(b, "child", "tail /dev/zero; exit $?")
	child.Resources.MemoryLimitBytes = 16 << 20
	if s := b.Await(b.Start(child)); !s.OOMKilled || s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("of a child: %+v", s)
	}
}

func TestForkBomb(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "bomb", "f() { f & f; }; f; sleep 1000")
	spec.Resources.PidsLimit = 50
	id := b.Start(spec)
	cg := filepath.Join(tree.Pod(b.Pod, cgroup.Burstable), "bomb_0")
	eventually(t, "the bomb reaches its limit", func() bool {
		s, err := tree.Stats(cg)
		return err == nil && s.Pids >= 45 || b.State(id) == container.Exited
	})
	b.Must(b.Runtime.Stop(b.Ctx, id, 0))
	if tree.Exists(cg) {
		t.Error("the cgroup is left")
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "main", `echo first; head -c 40000 /dev/zero | busybox tr '\0' a; echo; echo error >&2; busybox printf 'no newline'`)
	b.Await(b.Start(spec))
	var stdout, stderr []logLine
	for _, l := range logLines(t, spec.LogPath) {
		if l.stream == "stderr" {
			stderr = append(stderr, l)
		} else {
			stdout = append(stdout, l)
		}
	}
	if len(stderr) != 1 || stderr[0] != (logLine{"stderr", "F", "error"}) {
		t.Errorf("stderr %v", stderr)
	}
	want := []struct {
		tag  string
		size int
	}{{"F", 5}, {"P", 16384}, {"P", 16384}, {"F", 40000 - 2*16384}, {"F", 10}}
	if len(stdout) != len(want) {
		t.Fatalf("%d lines", len(stdout))
	}
	for i, w := range want {
		if stdout[i].tag != w.tag || len(stdout[i].text) != w.size {
			t.Errorf("line %d: %s of %d bytes, want %v", i, stdout[i].tag, len(stdout[i].text), w)
		}
	}
}

func TestLogRotation(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "main", "while read line; do echo $line; done")
	spec.Stdin = true
	id := b.Start(spec)
	b.Answers(id)
	b.Must(os.Rename(spec.LogPath, spec.LogPath+".1"))
	b.Must(b.Runtime.(container.LogReopener).ReopenLog(b.Ctx, id))
	b.Answers(id)
	for _, path := range []string{spec.LogPath, spec.LogPath + ".1"} {
		if lines := logLines(t, path); len(lines) != 1 || lines[0].text != "ready?" {
			t.Errorf("%s: %v", path, lines)
		}
	}
}

func TestStopKillsWhatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "main", "trap '' TERM; while read line; do echo $line; done; while true; do sleep 1; done")
	spec.Stdin = true
	id := b.Start(spec)
	b.Answers(id)
	// A long grace is cut short by a second Stop.
	first := make(chan error, 1)
	go func() { first <- b.Runtime.Stop(b.Ctx, id, time.Hour) }()
	b.Must(b.Runtime.Stop(b.Ctx, id, 20*time.Millisecond))
	b.Must(<-first)
	if s, _ := b.Status(id); s.ExitCode != 137 || s.Signal != 9 {
		t.Errorf("status %+v", s)
	}
	other := sh(b, "usr1", "trap 'exit 7' USR1; while read line; do echo $line; done")
	other.Stdin, other.StopSignal = true, "SIGUSR1"
	id = b.Start(other)
	b.Answers(id)
	b.Must(b.Runtime.Stop(b.Ctx, id, time.Hour))
	if s, _ := b.Status(id); s.ExitCode != 7 {
		t.Errorf("with its own signal: %+v", s)
	}
}

func TestTerminationMessage(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	file := filepath.Join(t.TempDir(), "message")
	b.Must(os.WriteFile(file, nil, 0o666))
	spec := sh(b, "main", "echo why it ended > /dev/termination-log; exit 3")
	spec.TerminationLog = file
	spec.Mounts = []container.Mount{{Source: file, Target: "/dev/termination-log"}}
	if s := b.Await(b.Start(spec)); s.Message != "why it ended\n" || s.ExitCode != 3 {
		t.Errorf("status %+v", s)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	dir := t.TempDir()
	b.Must(os.WriteFile(filepath.Join(dir, "file"), []byte("from the node"), 0o644))
	b.Must(os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	b.Must(unix.Mount("tmpfs", filepath.Join(dir, "sub"), "tmpfs", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Join(dir, "sub"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	spec := sh(b, "main", `cat /rw/file; echo; echo new > /rw/new
		for d in /ro /ro/sub /rro /rro/sub /scratch; do touch $d/x 2>/dev/null && echo "$d writable"; done
		grep ' /scratch ' /proc/mounts`)
	spec.Mounts = []container.Mount{
		{Source: dir, Target: "/rw", Propagation: "rslave"},
		{Source: dir, Target: "/ro", ReadOnly: true},
		{Source: dir, Target: "/rro", ReadOnly: true, RecursiveReadOnly: true},
		{Type: "tmpfs", Target: "/scratch", Options: []string{"size=1m"}},
	}
	got := output(t, b, spec)
	for _, want := range []string{"from the node", "/ro/sub writable", "/scratch writable", "size=1024k"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for _, bad := range []string{"/ro writable", "/rro writable", "/rro/sub writable"} {
		if strings.Contains(got, bad) {
			t.Errorf("%s", bad)
		}
	}
	if content, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(content) != "new\n" {
		t.Errorf("written through the mount: %q, %v", content, err)
	}
}

func TestPrivilegedAndDevices(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	plain := sh(b, "plain", `ls /dev/kmsg 2>/dev/null; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; true`)
	if got := output(t, b, plain); got != "" {
		t.Errorf("a plain container: %q", got)
	}
	device := sh(b, "device", `head -c 1 /dev/passed | busybox wc -c; ls -l /dev/passed`)
	device.Devices = []container.Device{{HostPath: "/dev/urandom", ContainerPath: "/dev/passed", Permissions: "r"}}
	if got := output(t, b, device); !strings.Contains(got, "1\n") {
		t.Errorf("a device: %q", got)
	}
	privileged := sh(b, "privileged", `ls /dev/kmsg; mount -t tmpfs x /tmp && echo mounted; grep -c ' /sys sysfs rw' /proc/mounts`)
	privileged.Security.Privileged = true
	if got := output(t, b, privileged); got != "/dev/kmsg\nmounted\n1" {
		t.Errorf("a privileged container: %q", got)
	}
}

func TestTTY(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	sizes := make(chan container.WindowSize, 1)
	in, keys := io.Pipe()
	r, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		code, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{
			Args: []string{"/bin/sh", "-c", "stty size; echo ready; read x; stty size; exit 4"}, TTY: true,
			Streams: container.Streams{Stdin: in, Stdout: out, Resize: sizes},
		})
		if err == nil && code != 4 {
			err = fmt.Errorf("exit code %d", code)
		}
		out.CloseWithError(err)
		done <- err
	}()
	var got bytes.Buffer
	buf := make([]byte, 1024)
	for !strings.Contains(got.String(), "ready") {
		n, err := r.Read(buf)
		b.Must(err)
		got.Write(buf[:n])
	}
	sizes <- container.WindowSize{Width: 123, Height: 45}
	eventually(t, "the terminal has its new size", func() bool {
		var size bytes.Buffer
		code, err := b.Runtime.Exec(b.Ctx, id, container.ExecSpec{
			Args:    []string{"/bin/sh", "-c", "for p in /proc/[0-9]*; do stty size < $p/fd/0 2>/dev/null; done; true"},
			Streams: container.Streams{Stdout: &size},
		})
		return err == nil && code == 0 && strings.Contains(size.String(), "45 123")
	})
	if _, err := io.WriteString(keys, "\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&got, r); err != nil {
		t.Error(err)
	}
	b.Must(<-done)
	if !strings.Contains(got.String(), "24 80") || !strings.Contains(got.String(), "45 123") {
		t.Errorf("terminal output %q", got.String())
	}
}

func TestMainTTY(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	spec := sh(b, "main", `[ -t 0 ] && [ -t 1 ] && echo terminal $TERM; stty size`)
	spec.TTY, spec.Stdin = true, true
	if got := output(t, b, spec); !strings.Contains(got, "terminal xterm") || !strings.Contains(got, "24 80") {
		t.Errorf("output %q", got)
	}
}

func TestShimKilled(t *testing.T) {
	t.Parallel()
	f := fixture(t)
	b := containertest.NewBench(t, f)
	id := b.Start(sh(b, "main", "sleep 1000 & sleep 1000"))
	before, _ := b.Status(id)
	ctx, cancel := context.WithCancel(b.Ctx)
	defer cancel()
	events := b.Runtime.Subscribe(ctx)
	client := b.Runtime.(*Client)
	conn, err := dial(b.Ctx, client.dir(b.Pod))
	b.Must(err)
	pid, err := peer(conn)
	b.Must(err)
	b.Must(conn.Close())
	b.Must(unix.Kill(pid, unix.SIGKILL))
	s, ok := containertest.WaitFor(ctx, events, func(s container.Status) bool { return s.ID == id && s.State == container.Exited })
	if !ok || s.ExitCode != 137 || s.Reason != "ContainerStatusUnknown" || s.Message == "" {
		t.Fatalf("%v, %+v", ok, s)
	}
	eventually(t, "its processes are gone", func() bool {
		left, err := tree.Processes(tree.Pod(b.Pod, cgroup.Burstable))
		return err == nil && len(left) == 0 && errors.Is(unix.Kill(before.PID, 0), unix.ESRCH)
	})
	b.Must(b.Runtime.EnsureSandbox(b.Ctx, sandbox(t, container.SandboxSpec{Pod: b.Pod, Hostname: "again"})))
	next := sh(b, "main", "hostname")
	next.ID.Attempt = 1
	if got := output(t, b, next); got != "again" {
		t.Errorf("the next attempt: %q", got)
	}
	if s, _ := b.Status(id); s.Reason != "ContainerStatusUnknown" {
		t.Errorf("the first attempt is now %+v", s)
	}
}

func TestShimKilledWhileTheKubeletWasAway(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	id := b.Start(b.Spec("main", "/bin/sleep", "1000"))
	client := b.Runtime.(*Client)
	conn, err := dial(b.Ctx, client.dir(b.Pod))
	b.Must(err)
	pid, err := peer(conn)
	b.Must(errors.Join(err, conn.Close(), client.Close()))
	b.Must(unix.Kill(pid, unix.SIGKILL))
	eventually(t, "the shim's lock is free", func() bool {
		lock, held, err := client.dir(b.Pod).Lock()
		return err == nil && !held && lock.Close() == nil
	})
	again := newClient(t, client.cfg.Root)
	b.Runtime = again
	if s, _ := b.Status(id); s.State != container.Exited || s.ExitCode != 137 || s.Reason != "ContainerStatusUnknown" {
		t.Errorf("status %+v", s)
	}
	b.Must(again.Stop(b.Ctx, id, time.Second))
	b.Must(again.Remove(b.Ctx, id))
	b.Must(again.RemoveSandbox(b.Ctx, b.Pod))
	if left, err := os.ReadDir(filepath.Join(client.cfg.Root, "shims")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	b := containertest.NewBench(t, fixture(t))
	first := b.Start(sh(b, "first", "echo shared > /dev/shm/file; sleep 1000"))
	eventually(t, "the file is in the shared /dev/shm", func() bool {
		code, err := b.Runtime.Exec(b.Ctx, first, container.ExecSpec{Args: []string{"/bin/grep", "-q", "shared", "/dev/shm/file"}})
		return err == nil && code == 0
	})
	second := sh(b, "second", `cat /dev/shm/file; hostname; ls /proc | grep -c '^[0-9]*$'; for n in uts ipc pid mnt net; do readlink /proc/self/ns/$n; done`)
	got := strings.Split(output(t, b, second), "\n")
	if len(got) != 8 || got[0] != "shared" || got[1] != "web" {
		t.Fatalf("output %q", got)
	}
	s, _ := b.Status(first)
	for i, ns := range []string{"uts", "ipc", "pid", "mnt", "net"} {
		of, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.PID, ns))
		b.Must(err)
		shared := got[3+i] == of
		if want := ns == "uts" || ns == "ipc" || ns == "net"; shared != want {
			t.Errorf("%s namespace shared: %v, want %v", ns, shared, want)
		}
	}
	joined := sh(b, "joined", "readlink /proc/self/ns/pid")
	joined.TargetPID = "first"
	of, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.PID))
	b.Must(err)
	if got := output(t, b, joined); got != of {
		t.Errorf("joined %q, target has %q", got, of)
	}
}

func TestSharedPIDNamespace(t *testing.T) {
	t.Parallel()
	b := containertest.NewBenchWith(t, fixture(t), container.SandboxSpec{SharePID: true})
	first := b.Start(b.Spec("first", "/bin/sleep", "12345"))
	second := sh(b, "second", "(sleep 0 &); while ! ps | grep -q '[1]2345'; do sleep 1; done; busybox cat /proc/1/cmdline | busybox tr '\\0' ' '")
	if got := output(t, b, second); !strings.Contains(got, "pause") {
		t.Errorf("process 1 is %q", got)
	}
	// The end of one container takes its processes, and not the other's.
	spawn := sh(b, "spawn", "sleep 54321 & exit 0")
	b.Await(b.Start(spawn))
	var out bytes.Buffer
	_, err := b.Runtime.Exec(b.Ctx, first, container.ExecSpec{Args: []string{"/bin/ps"}, Streams: container.Streams{Stdout: &out}})
	b.Must(err)
	if strings.Contains(out.String(), "54321") || !strings.Contains(out.String(), "12345") || strings.Contains(out.String(), " Z ") {
		t.Errorf("processes:\n%s", out.String())
	}
}

func TestHostNamespaces(t *testing.T) {
	t.Parallel()
	b := containertest.NewBenchWith(t, fixture(t), container.SandboxSpec{HostPID: true, HostIPC: true})
	spec := sh(b, "main", "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; (sleep 0 &)")
	own := []string{}
	for _, ns := range []string{"pid", "ipc"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		b.Must(err)
		own = append(own, link)
	}
	if got := output(t, b, spec); got != strings.Join(own, "\n") {
		t.Errorf("%q, the node's are %q", got, own)
	}
	// An orphan without a PID namespace comes to the shim, which reaps it.
	orphan := sh(b, "orphan", "(sleep 1 & ); (busybox true & ); sleep 1000")
	b.Start(orphan)
	conn, err := dial(b.Ctx, b.Runtime.(*Client).dir(b.Pod))
	b.Must(err)
	pid, err := peer(conn)
	b.Must(errors.Join(err, conn.Close()))
	eventually(t, "the shim has no zombie and one child", func() bool {
		children := 0
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		b.Must(err)
		for _, path := range stats {
			content, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
			if fields[1] == strconv.Itoa(pid) {
				children++
				if fields[0] == "Z" {
					return false
				}
			}
		}
		return children == 1
	})
}

func TestNetworkNamespaceAndSysctls(t *testing.T) {
	t.Parallel()
	netns := newNetNS(t)
	b := containertest.NewBenchWith(t, fixture(t), container.SandboxSpec{
		NetNS: netns,
		Sysctls: map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "9999",
		},
	})
	spec := sh(b, "main", `ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax`)
	if got := output(t, b, spec); !strings.HasPrefix(got, "lo\n") || !strings.HasSuffix(got, "\n7\n1\n9999") {
		t.Errorf("output %q", got)
	}
	bad := sandbox(t, container.SandboxSpec{Pod: b.Pod + "-bad", Hostname: "x", Sysctls: map[string]string{"vm.swappiness": "1"}})
	err := b.Runtime.EnsureSandbox(b.Ctx, bad)
	if err == nil || !strings.Contains(err.Error(), `sysctl "vm.swappiness" is not in a namespace of the Pod`) {
		t.Errorf("a sysctl of the node: %v", err)
	}
	b.Must(b.Runtime.RemoveSandbox(b.Ctx, bad.Pod))
}
