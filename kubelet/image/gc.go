package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Policy says when images are collected; the fields are those of the kubelet's
// configuration (imageGCHighThresholdPercent and so on).
type Policy struct {
	HighPercent int           // of the disk in use: above it collection begins
	LowPercent  int           // down to which it goes on
	MinAge      time.Duration // since an image was pulled or used
	MaxAge      time.Duration // unused for longer goes always; 0 is never
}

// Usage is the disk the store is on.
type Usage struct {
	CapacityBytes, AvailableBytes uint64
	Inodes, InodesFree            uint64
}

// Usage reads it.
func (s *Store) Usage() (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.root, &st); err != nil {
		return Usage{}, fmt.Errorf("read disk usage: %w", err)
	}
	block := uint64(st.Bsize)
	return Usage{CapacityBytes: st.Blocks * block, AvailableBytes: st.Bavail * block, Inodes: st.Files, InodesFree: st.Ffree}, nil
}

// ErrNotEnough is what a collection ends with that could not free enough.
var ErrNotEnough = errors.New("not enough images could be removed")

// Collect removes images that no root directory is made of and keep does not
// name (references or IDs), the least recently used first, until the disk is
// below the policy's mark. It returns the bytes of the images removed.
func (s *Store) Collect(ctx context.Context, p Policy, keep []string) (freed int64, err error) {
	u, err := s.Usage()
	if err != nil {
		return 0, err
	}
	var goal int64
	used := percent(u)
	if used >= p.HighPercent {
		goal = int64(u.CapacityBytes)*int64(100-p.LowPercent)/100 - int64(u.AvailableBytes)
	}
	return s.collect(ctx, p, goal, keep)
}

func percent(u Usage) int {
	if u.CapacityBytes == 0 {
		return 0
	}
	return 100 - int(u.AvailableBytes*100/u.CapacityBytes)
}

// CollectAll removes every image that is not used, as under disk pressure.
func (s *Store) CollectAll(ctx context.Context, keep []string) (freed int64, err error) {
	freed, err = s.collect(ctx, Policy{}, 1<<62, keep)
	if errors.Is(err, ErrNotEnough) {
		err = nil
	}
	return freed, err
}

func (s *Store) collect(ctx context.Context, p Policy, goal int64, keep []string) (freed int64, err error) {
	used, err := s.mounted()
	if err != nil {
		return 0, err
	}
	for _, ref := range keep {
		img, there, err := s.Resolve(ctx, ref)
		if err == nil && there {
			used[img.ID] = true
		}
	}
	for _, c := range s.candidates(used) {
		idle := time.Since(c.since)
		tooOld := p.MaxAge > 0 && idle > p.MaxAge
		if !tooOld && (freed >= goal || idle < p.MinAge) {
			continue
		}
		if ctx.Err() != nil {
			return freed, ctx.Err()
		}
		s.mu.Lock()
		size := c.size
		if s.lastUsed[c.id].After(c.since) || s.records[c.id] == nil {
			size, err = 0, nil // used since we looked
		} else {
			err = s.delete(c.id)
		}
		s.mu.Unlock()
		if err != nil {
			return freed, err
		}
		freed += size
		slog.Info("image removed", "id", c.id, "bytes", size, "idle", idle)
	}
	if freed < goal {
		return freed, fmt.Errorf("%w: wanted %d bytes, freed %d", ErrNotEnough, goal, freed)
	}
	return freed, nil
}

type candidate struct {
	id    string
	since time.Time
	size  int64
}

func (s *Store) candidates(used map[string]bool) []candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []candidate
	for id, r := range s.records {
		if used[id] {
			continue
		}
		since := s.lastUsed[id]
		if since.IsZero() {
			since = r.AddedAt
		}
		list = append(list, candidate{id, since, r.SizeBytes})
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.since.Compare(b.since) })
	return list
}
