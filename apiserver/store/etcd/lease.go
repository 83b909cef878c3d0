package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Sharing of leases, as upstream does: each costs etcd memory and heartbeats,
// so objects written within a minute share one, up to a thousand, because all
// of a lease's keys are deleted in one go. With short TTLs the extra life is
// at most a twentieth.
const (
	leaseReuse      = time.Minute
	leaseObjects    = 1000
	leaseReuseShare = 20
)

// leases hands out shared leases of one TTL.
type leases struct {
	client clientv3.Lease
	ttl    time.Duration
	reuse  time.Duration
	now    func() time.Time

	mu      sync.Mutex // guards all below; held while a lease is granted, so that one grant serves all who wait
	current clientv3.LeaseID
	until   time.Time
	objects int
}

func newLeases(client clientv3.Lease, ttl time.Duration) *leases {
	return &leases{client: client, ttl: ttl, reuse: min(leaseReuse, ttl/leaseReuseShare), now: time.Now}
}

// get returns a lease that lasts at least the TTL.
func (l *leases) get(ctx context.Context) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.current != clientv3.NoLease && now.Before(l.until) && l.objects < leaseObjects {
		l.objects++
		return l.current, nil
	}
	life := l.ttl + l.reuse
	answer, err := l.client.Grant(ctx, int64((life+time.Second-1)/time.Second))
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("grant lease of %v: %w", life, err)
	}
	l.current, l.until, l.objects = answer.ID, now.Add(l.reuse), 1
	return l.current, nil
}
