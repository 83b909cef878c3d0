package shimclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// lost makes a status that of a container whose end nobody saw; code and reason
// are those of Kubernetes (kubelet, "ContainerStatusUnknown").
func lost(s *container.Status) {
	s.State, s.PID, s.FinishedAt = container.Exited, 0, time.Now()
	s.ExitCode, s.Signal, s.Reason = 137, int(unix.SIGKILL), "ContainerStatusUnknown"
	s.Message = "The container's supervisor was killed; the container was ended with it."
}

// EnsureSandbox implements container.Sandboxes.
func (c *Client) EnsureSandbox(ctx context.Context, spec container.SandboxSpec) error {
	if !record.ValidName(string(spec.Pod)) {
		return fmt.Errorf("ensure sandbox: %q is not a valid pod UID", spec.Pod)
	}
	p := c.pod(spec.Pod)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		return fmt.Errorf("ensure sandbox %s: it is being removed", spec.Pod)
	}
	if _, err := os.Stat(string(p.dir)); err == nil {
		alive, err := c.adopt(ctx, p)
		if err != nil {
			return fmt.Errorf("ensure sandbox %s: %w", spec.Pod, err)
		}
		if alive {
			return nil
		}
	}
	// A shim that is started for an old directory makes the namespaces anew, so
	// it is a new sandbox.
	if err := p.dir.WriteSandbox(record.Sandbox{Spec: spec, CreatedAt: time.Now()}); err != nil {
		return fmt.Errorf("ensure sandbox %s: %w", spec.Pod, err)
	}
	if err := c.startShim(ctx, p.dir); err != nil {
		return fmt.Errorf("ensure sandbox %s: %w", spec.Pod, err)
	}
	c.watch(p)
	return nil
}

// startShim starts a shim in a session of its own and waits until it serves.
func (c *Client) startShim(ctx context.Context, dir record.Dir) error {
	log, err := os.OpenFile(dir.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open shim log: %w", err)
	}
	defer log.Close()
	ready, far, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	defer ready.Close()
	cmd := exec.Command(c.cfg.ShimPath, "serve", string(dir))
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{far}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if cerr := far.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	go func() {
		if err := cmd.Wait(); err != nil { // how it ended; the watcher does the rest
			slog.Warn("shim ended", "dir", string(dir), "error", err)
		}
	}()
	release := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) }) // ends the read below
	defer release()
	answer, err := bufio.NewReader(io.LimitReader(ready, 8<<10)).ReadString('\n')
	switch answer = strings.TrimSpace(answer); {
	case answer == "ok":
		return nil
	case ctx.Err() != nil:
		return errors.Join(fmt.Errorf("start shim: %w", ctx.Err()), cmd.Process.Kill())
	case answer != "":
		return fmt.Errorf("start shim: %s", answer)
	}
	return fmt.Errorf("start shim: it ended at once (see %s): %w", dir.Log(), err)
}

// RemoveSandbox implements container.Sandboxes.
func (c *Client) RemoveSandbox(ctx context.Context, uid types.UID) error {
	if !record.ValidName(string(uid)) {
		return fmt.Errorf("remove sandbox: %q is not a valid pod UID", uid)
	}
	p := c.pod(uid)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := c.remove(ctx, p); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", uid, err)
	}
	p.removed = true
	c.mu.Lock()
	if c.pods[uid] == p {
		delete(c.pods, uid)
	}
	c.mu.Unlock()
	return nil
}

func (c *Client) remove(ctx context.Context, p *pod) error {
	trash := filepath.Join(filepath.Dir(string(p.dir)), "."+filepath.Base(string(p.dir)))
	if _, err := os.Stat(string(p.dir)); errors.Is(err, fs.ErrNotExist) {
		return discard(trash) // of an earlier attempt
	}
	lock, err := c.endShim(ctx, p.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.bury(ctx, p.dir); err != nil {
		return err
	}
	sb, err := p.dir.Sandbox()
	if err == nil && sb.Spec.CgroupParent != "" {
		err = c.cfg.Cgroups.RemoveChildren(ctx, filepath.Join("/", sb.Spec.CgroupParent))
	}
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		return err
	}
	// Out of the way in one step: half a sandbox must not be found.
	if err := discard(trash); err != nil {
		return err
	}
	if err := os.Rename(string(p.dir), trash); err != nil {
		return fmt.Errorf("remove sandbox directory: %w", err)
	}
	return discard(trash)
}

// endShim makes the shim shut down and returns with the sandbox's lock. A shim
// that does not obey is killed.
func (c *Client) endShim(ctx context.Context, dir record.Dir) (*os.File, error) {
	asked := false
	for {
		lock, held, err := dir.Lock()
		if err != nil || !held {
			return lock, err
		}
		if !asked {
			asked = true
			if err := c.shutdown(ctx, dir); err != nil && !errors.Is(err, errShimGone) {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for shim to end: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// lockPoll is how often to look whether a shim that has answered is gone; it
// has nothing left to do but exit.
const lockPoll = 2 * time.Millisecond

// shutdownTime is how long killing a Pod's containers may take before the shim
// is taken to be stuck. Processes in uninterruptible sleep may need long.
const shutdownTime = 30 * time.Second

func (c *Client) shutdown(ctx context.Context, dir record.Dir) error {
	bounded, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	conn, err := dial(bounded, dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	pid, err := peer(conn)
	if err != nil {
		return err
	}
	_, err = roundTrip(bounded, conn, protocol.Request{Op: protocol.OpShutdown})
	if err == nil || errors.Is(err, errShimGone) || ctx.Err() != nil {
		return err
	}
	slog.Warn("killing a shim that does not shut down", "dir", string(dir), "error", err)
	// The connection is open, so the process is still the one at its other end.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill shim: %w", err)
	}
	return nil
}

// ListSandboxes implements container.Sandboxes.
func (c *Client) ListSandboxes(context.Context) ([]container.Sandbox, error) {
	entries, err := os.ReadDir(filepath.Join(c.cfg.Root, "shims"))
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	all := []container.Sandbox{}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		uid := types.UID(e.Name())
		// One without its file was never finished; it is listed so that it is removed.
		sb, err := c.dir(uid).Sandbox()
		if err != nil && !errors.Is(err, container.ErrNotFound) {
			return nil, err
		}
		statuses, err := c.dir(uid).Statuses()
		if err != nil {
			return nil, err
		}
		all = append(all, container.Sandbox{Pod: uid, CreatedAt: sb.CreatedAt, Containers: statuses})
	}
	return all, nil
}
