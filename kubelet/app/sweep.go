package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/podworker"
)

// sweeper is the Sink of the Pod sources: the pool, and once all wanted Pods
// are known, the removal of what earlier Pods left on the node.
type sweeper struct {
	*podworker.Pool
	hooks  lifecycle.Chain
	tree   *cgroup.Tree
	root   string
	logger *slog.Logger
	synced chan struct{}
}

// Synced lets Run begin.
func (s *sweeper) Synced() {
	s.Pool.Synced()
	close(s.synced)
}

// Run removes leftovers once.
func (s *sweeper) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.synced:
	}
	if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
		s.logger.Warn("removing leftovers of earlier pods", "error", err)
	}
	<-ctx.Done()
	return nil
}

// sweep cleans up after Pods that no worker leads: the pool has made workers
// for all that the runtime or a checkpoint knows. What is on the node is
// listed first, so that a Pod that arrives meanwhile is not taken for a leftover.
func (s *sweeper) sweep(ctx context.Context) error {
	left, err := s.leftovers()
	if err != nil {
		return err
	}
	for _, pod := range s.Pods() {
		delete(left, pod.UID)
	}
	var errs []error
	for uid := range left {
		s.logger.Info("removing leftovers of an earlier pod", "uid", string(uid))
		errs = append(errs, s.hooks.Cleanup(ctx, uid))
	}
	return errors.Join(errs...)
}

// leftovers are the Pods of which anything is on the node.
func (s *sweeper) leftovers() (map[types.UID]bool, error) {
	found := map[types.UID]bool{}
	for _, dir := range []string{"pods", "network", "netns"} {
		entries, err := os.ReadDir(filepath.Join(s.root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list leftovers: %w", err)
		}
		for _, entry := range entries {
			found[types.UID(strings.TrimSuffix(entry.Name(), ".json"))] = true
		}
	}
	groups, err := s.tree.Pods()
	if err != nil {
		return nil, fmt.Errorf("list pod cgroups: %w", err)
	}
	for _, group := range groups {
		found[group.UID] = true
	}
	return found, nil
}
