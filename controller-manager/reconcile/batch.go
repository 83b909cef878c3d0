package reconcile

import (
	"errors"
	"sync"
)

// SlowStart calls work n times, in parallel batches of 1, 2, 4, ... calls, and
// stops after the first batch with an error: a quota that is exhausted is hit
// once, not n times. It returns how many calls succeeded, and the errors.
func SlowStart(n int, work func(i int) error) (done int, err error) {
	next := 0
	for batch := min(1, n); batch > 0; batch = min(2*batch, n-next) {
		ok, err := Parallel(batch, func(i int) error { return work(next + i) })
		done += ok
		next += batch
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Parallel calls work n times at once and waits. It returns how many calls
// succeeded, and the errors joined.
func Parallel(n int, work func(i int) error) (done int, err error) {
	var group sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		group.Go(func() { errs[i] = work(i) })
	}
	group.Wait()
	for _, e := range errs {
		if e == nil {
			done++
		}
	}
	return done, errors.Join(errs...)
}
