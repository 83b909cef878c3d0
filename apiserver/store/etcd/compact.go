package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// compactKey coordinates compaction among API servers, ours and upstream's: its
// version counts the rounds, its value is the revision of the last one.
const compactKey = "compact_rev_key"

// DefaultCompactInterval is upstream's --etcd-compaction-interval.
const DefaultCompactInterval = 5 * time.Minute

// Compactor drops history that is older than an interval; a component.Runnable.
// Several may run on one etcd: whoever writes compactKey first does the round.
type Compactor struct {
	// Client of etcd; required.
	Client *clientv3.Client
	// Interval between rounds; 0 means DefaultCompactInterval, negative never.
	Interval time.Duration
	// Logger; nil means slog.Default().
	Logger *slog.Logger

	round     int64 // version of compactKey as last seen
	revision  int64 // current when the last round was
	compacted atomic.Int64
}

// Compacted is the oldest revision that can still be read, as far as this
// server knows: what its own rounds and the claims of others say.
func (c *Compactor) Compacted() int64 { return c.compacted.Load() }

// Run compacts until ctx ends. A round that fails is logged and made up for by
// the next.
func (c *Compactor) Run(ctx context.Context) error {
	logger, interval := c.Logger, c.Interval
	if logger == nil {
		logger = slog.Default()
	}
	if interval == 0 {
		interval = DefaultCompactInterval
	}
	if interval < 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		compacted, err := c.Round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			logger.Error("etcd not compacted", "err", err)
		case compacted > 0:
			logger.Debug("etcd compacted", "revision", compacted)
		}
	}
}

// Round claims the next round and compacts to the revision that was current at
// the one before. It returns that revision, or 0 when another server's claim
// came first or this is the first round seen.
func (c *Compactor) Round(ctx context.Context) (int64, error) {
	answer, err := c.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.Version(compactKey), "=", c.round)).
		Then(clientv3.OpPut(compactKey, strconv.FormatInt(c.revision, 10))).
		Else(clientv3.OpGet(compactKey)).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("claim compaction round: %w", err)
	}
	target := c.revision
	c.revision = answer.Header.Revision
	if !answer.Succeeded {
		c.round = 0
		if kvs := answer.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
			c.round = kvs[0].Version
			if revision, err := strconv.ParseInt(string(kvs[0].Value), 10, 64); err == nil {
				c.compacted.Store(revision)
			}
		}
		return 0, nil
	}
	c.round++
	if target == 0 {
		return 0, nil
	}
	if _, err := c.Client.Compact(ctx, target); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return 0, fmt.Errorf("compact to revision %d: %w", target, err)
	}
	c.compacted.Store(target)
	return target, nil
}
