// Package shimclient is container.Runtime over one shim process for each Pod.
// It starts shims, finds them again after a restart of the kubelet by what is
// on disk (package record), speaks package protocol with them, and buries the
// containers of a shim that was killed: their processes are killed, their ends
// recorded. The kubelet's app makes one Client and closes it.
//
// Goroutines: one watching each shim, and one waiting for each shim this
// process started; those of Subscribe until its context ends.
package shimclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// Cgroups is what the client needs of package cgroup.
type Cgroups interface {
	Kill(ctx context.Context, path string) error
	Remove(ctx context.Context, path string) error
	RemoveChildren(ctx context.Context, path string) error
	Stats(path string) (container.Stats, error)
}

// Config of a Client; all fields are required.
type Config struct {
	Root     string // the kubelet's directory; shims live in its shims/
	ShimPath string // the kubelet-shim binary
	Cgroups  Cgroups
}

// Client is container.Runtime, and container.LogReopener.
type Client struct {
	cfg  Config
	hub  *hub
	ctx  context.Context // ends at Close
	stop context.CancelFunc
	wg   sync.WaitGroup // the watchers

	mu   sync.Mutex
	pods map[types.UID]*pod // guarded by mu
}

// pod is one sandbox as the client knows it.
type pod struct {
	dir record.Dir
	mu  sync.Mutex // held while the shim is started, buried or removed
	// watched: a watcher runs; it follows whichever shim serves. Guarded by mu.
	watched bool
	removed bool // guarded by mu
}

// New finds the sandboxes below Root, connects to their shims, and buries the
// containers of those that are dead.
func New(cfg Config) (*Client, error) {
	if cfg.Root == "" || cfg.ShimPath == "" || cfg.Cgroups == nil {
		return nil, errors.New("container runtime: Root, ShimPath and Cgroups are required")
	}
	if err := os.MkdirAll(filepath.Join(cfg.Root, "shims"), 0o700); err != nil {
		return nil, fmt.Errorf("create shim directory: %w", err)
	}
	c := &Client{cfg: cfg, hub: newHub(), pods: map[types.UID]*pod{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	uids, err := c.scan()
	if err != nil {
		c.stop()
		return nil, err
	}
	for _, uid := range uids {
		p := c.pod(uid)
		p.mu.Lock()
		_, err := c.adopt(c.ctx, p)
		p.mu.Unlock()
		if err != nil {
			slog.Error("cannot take over sandbox", "uid", uid, "error", err)
		}
	}
	return c, nil
}

// Close ends the client's goroutines. The shims and their containers live on.
func (c *Client) Close() error {
	c.stop()
	c.wg.Wait()
	return nil
}

// scan lists the sandboxes on disk and clears what a removal left half done.
func (c *Client) scan() ([]types.UID, error) {
	root := filepath.Join(c.cfg.Root, "shims")
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var uids []types.UID
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), "."):
			if err := discard(filepath.Join(root, e.Name())); err != nil {
				return nil, err
			}
		case e.IsDir():
			uids = append(uids, types.UID(e.Name()))
		}
	}
	return uids, nil
}

// discard deletes a sandbox directory that has been renamed out of the way.
func discard(path string) error {
	if err := unix.Unmount(filepath.Join(path, "shm"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount shm: %w", err)
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove sandbox directory: %w", err)
	}
	return nil
}

func (c *Client) dir(uid types.UID) record.Dir {
	return record.Dir(filepath.Join(c.cfg.Root, "shims", string(uid)))
}

// pod returns the entry of a UID, a new one if need be.
func (c *Client) pod(uid types.UID) *pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[uid]
	if p == nil {
		p = &pod{dir: c.dir(uid)}
		c.pods[uid] = p
	}
	return p
}

// adopt makes a directory's state known: a live shim is watched, a dead one
// buried. Called with p.mu held.
func (c *Client) adopt(ctx context.Context, p *pod) (alive bool, err error) {
	lock, held, err := p.dir.Lock()
	if err != nil {
		return false, err
	}
	if held {
		c.watch(p)
		return true, nil
	}
	return false, errors.Join(c.bury(ctx, p.dir), lock.Close())
}

// bury ends what a dead shim left: the processes are killed, then their ends
// recorded with the code and reason Kubernetes gives to ends nobody saw. Called
// with the sandbox's lock held.
func (c *Client) bury(ctx context.Context, dir record.Dir) error {
	sb, err := dir.Sandbox()
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	statuses, err := dir.Statuses()
	if err != nil {
		return err
	}
	for _, s := range statuses {
		if s.State == container.Exited {
			continue
		}
		// A container that is only created may have been about to start.
		if err := c.cfg.Cgroups.Remove(ctx, record.Cgroup(sb.Spec, s.ID)); err != nil {
			return fmt.Errorf("bury container %q: %w", s.ID.Name, err)
		}
		if s.State == container.Created {
			continue
		}
		lost(&s)
		if err := dir.WriteStatus(s); err != nil {
			return err
		}
		slog.Warn("container ended with its shim", "pod", sb.Spec.Namespace+"/"+sb.Spec.Name, "uid", sb.Spec.Pod, "container", s.ID.Name)
		c.hub.publish(s)
	}
	if err := os.RemoveAll(dir.Runc()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove container states: %w", err)
	}
	return nil
}
