package shimclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// errShimGone: nobody serves the sandbox.
var errShimGone = errors.New("the sandbox's shim is gone")

// dial connects to a shim. The socket is reached through a descriptor of its
// directory, because its path may be longer than a socket's address.
func dial(ctx context.Context, dir record.Dir) (*net.UnixConn, error) {
	fd, err := unix.Open(string(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sandbox: %w", container.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open sandbox directory: %w", err)
	}
	f := os.NewFile(uintptr(fd), string(dir))
	defer f.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", fd, record.SocketName))
	switch {
	case err == nil:
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, errShimGone
	default:
		return nil, fmt.Errorf("connect to shim: %w", err)
	}
	unixConn, is := conn.(*net.UnixConn)
	if !is {
		return nil, errors.Join(errors.New("connect to shim: not a unix socket"), conn.Close())
	}
	return unixConn, nil
}

// peer is the process at the other end.
func peer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("identify shim: %w", err)
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, sockErr); err != nil {
		return 0, fmt.Errorf("identify shim: %w", err)
	}
	return int(cred.Pid), nil
}

// roundTrip sends a request and waits for its response, or ctx.
func roundTrip(ctx context.Context, conn net.Conn, req protocol.Request) (protocol.Response, error) {
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed one needs none
	defer release()
	var resp protocol.Response
	err := protocol.WriteJSON(conn, protocol.FrameRequest, req)
	if err == nil {
		err = protocol.ReadJSON(conn, protocol.FrameResponse, &resp)
	}
	switch {
	case err == nil:
		return resp, resp.Err()
	case ctx.Err() != nil:
		return resp, ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return resp, errShimGone
	}
	return resp, err
}

// call is one request on a connection of its own.
func (c *Client) call(ctx context.Context, uid types.UID, req protocol.Request) error {
	if !record.ValidName(string(uid)) {
		return fmt.Errorf("pod UID %q: %w", uid, container.ErrNotFound)
	}
	conn, err := dial(ctx, c.dir(uid))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = roundTrip(ctx, conn, req)
	return err
}

// settle buries a Pod whose shim a request did not reach.
func (c *Client) settle(ctx context.Context, uid types.UID) error {
	p := c.pod(uid)
	p.mu.Lock()
	defer p.mu.Unlock()
	lock, held, err := p.dir.Lock()
	if err != nil {
		return err
	}
	if held {
		return errors.New("the shim lives but does not answer")
	}
	return errors.Join(c.bury(ctx, p.dir), lock.Close())
}

// Create implements container.Containers.
func (c *Client) Create(ctx context.Context, spec container.Spec) error {
	err := c.call(ctx, spec.ID.Pod, protocol.Request{Op: protocol.OpCreate, ID: spec.ID, Spec: &spec})
	if errors.Is(err, errShimGone) {
		return fmt.Errorf("create container %q: sandbox: %w: %w", spec.ID.Name, container.ErrNotFound, err)
	}
	return err
}

// Start implements container.Containers.
func (c *Client) Start(ctx context.Context, id container.ID) error {
	err := c.call(ctx, id.Pod, protocol.Request{Op: protocol.OpStart, ID: id})
	if errors.Is(err, errShimGone) {
		return fmt.Errorf("start container %q: sandbox: %w: %w", id.Name, container.ErrNotFound, err)
	}
	return err
}

// Stop implements container.Containers.
func (c *Client) Stop(ctx context.Context, id container.ID, grace time.Duration) error {
	err := c.call(ctx, id.Pod, protocol.Request{Op: protocol.OpStop, ID: id, Grace: grace})
	switch {
	case errors.Is(err, container.ErrNotFound):
		return nil
	case errors.Is(err, errShimGone):
		return c.settle(ctx, id.Pod)
	}
	return err
}

// Remove implements container.Containers.
func (c *Client) Remove(ctx context.Context, id container.ID) error {
	if !record.ValidName(id.Name) {
		return nil
	}
	err := c.call(ctx, id.Pod, protocol.Request{Op: protocol.OpRemove, ID: id})
	switch {
	case errors.Is(err, container.ErrNotFound):
		return nil
	case errors.Is(err, errShimGone):
		if err := c.settle(ctx, id.Pod); err != nil {
			return err
		}
		return c.dir(id.Pod).Remove(id)
	}
	return err
}

// ReopenLog implements container.LogReopener.
func (c *Client) ReopenLog(ctx context.Context, id container.ID) error {
	err := c.call(ctx, id.Pod, protocol.Request{Op: protocol.OpReopenLog, ID: id})
	if errors.Is(err, container.ErrNotFound) || errors.Is(err, errShimGone) {
		return nil
	}
	return err
}
