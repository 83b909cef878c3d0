package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// execProber runs a command in the container; exit code 0 is a success.
type execProber struct {
	runtime container.Containers
}

func (*execProber) Match(h *corev1.ProbeHandler) bool { return h.Exec != nil }

func (p *execProber) Probe(ctx context.Context, target Target, h *corev1.ProbeHandler) (Result, error) {
	if p.runtime == nil {
		return Result{}, errors.New("no runtime for exec probes")
	}
	output := &headBuffer{}
	code, err := p.runtime.Exec(ctx, target.ID, container.ExecSpec{
		Args: h.Exec.Command, Streams: container.Streams{Stdout: output, Stderr: output},
	})
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Failure, fmt.Sprintf("command timed out: %q", h.Exec.Command)}, nil
	case errors.Is(err, container.ErrStart):
		return Result{Failure, err.Error()}, nil
	case err != nil:
		return Result{}, err
	case code != 0:
		return Result{Failure, output.String()}, nil
	default:
		return Result{Success, output.String()}, nil
	}
}

// headBuffer keeps the beginning of a command's output and drops the rest.
type headBuffer struct {
	mu  sync.Mutex // stdout and stderr are written at the same time
	buf bytes.Buffer
}

func (b *headBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := maxBody - b.buf.Len(); left > 0 {
		b.buf.Write(p[:min(len(p), left)])
	}
	return len(p), nil
}

func (b *headBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
