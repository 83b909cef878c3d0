package lifecycle

import (
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Outcome of a decision about deletion.
type Outcome uint8

// The outcomes.
const (
	// Remove the object from the store now.
	Remove Outcome = iota + 1
	// Mark: store the changed object, somebody else finishes.
	Mark
	// Pending: it is being deleted already and nothing changes.
	Pending
)

// CheckPreconditions compares delete preconditions with the stored object. The
// error is a Conflict Status.
func CheckPreconditions(gr schema.GroupResource, p *metav1.Preconditions, obj resource.Object) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != obj.GetUID() {
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, obj.GetUID())) //nolint:staticcheck // upstream's text
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf(
			"Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", //nolint:staticcheck // upstream's text
			*p.ResourceVersion, obj.GetResourceVersion()))
	}
	return nil
}

// Delete decides about a delete request for obj, a private copy which it
// changes when the outcome is Mark.
func Delete(d *resource.Definition, obj resource.Object, o *metav1.DeleteOptions, now metav1.Time) Outcome {
	finalizersChanged := collectFinalizers(d, obj, o)
	grace, graceful, pending := gracePeriod(d, obj, o, now)
	held := len(obj.GetFinalizers()) > 0 || !ready(d, obj)
	switch {
	case pending && !finalizersChanged:
		return Pending
	case pending:
		return Mark
	case graceful && (grace > 0 || held):
		return Mark
	case !held:
		return Remove
	}
	if markDeleting(d, obj, now) || finalizersChanged {
		return Mark
	}
	return Pending
}

// ready says whether nothing kind-specific holds the object.
func ready(d *resource.Definition, obj resource.Object) bool {
	return d.ReadyToDelete == nil || d.ReadyToDelete(obj)
}

// gracePeriod applies graceful deletion to obj: graceful with the seconds set
// on obj, or pending when a graceful deletion is under way and not shortened.
func gracePeriod(d *resource.Definition, obj resource.Object, o *metav1.DeleteOptions, now metav1.Time) (seconds int64, graceful, pending bool) {
	if d.DeleteGrace == nil {
		return 0, false, false
	}
	requested := o.GracePeriodSeconds
	if requested != nil && *requested < 0 {
		one := int64(1) // negative periods mean one second (upstream rest.BeforeDelete)
		requested = &one
	}
	if at := obj.GetDeletionTimestamp(); at != nil {
		return shorten(obj, at, requested)
	}
	seconds, graceful = d.DeleteGrace(obj, requested)
	if !graceful {
		return 0, false, false
	}
	setDeleting(obj, metav1.NewTime(now.Add(time.Duration(seconds)*time.Second)), seconds)
	if d.BeginDelete != nil {
		d.BeginDelete(obj)
	}
	return seconds, true, false
}

// shorten applies a second delete: only a shorter period changes anything.
func shorten(obj resource.Object, at *metav1.Time, requested *int64) (seconds int64, graceful, pending bool) {
	current := obj.GetDeletionGracePeriodSeconds()
	if current == nil {
		return 0, false, false
	}
	if requested == nil {
		return *current, *current == 0, *current > 0
	}
	if *requested >= *current && *current > 0 {
		return *current, false, true
	}
	if *requested >= *current {
		return 0, false, false
	}
	began := at.Add(-time.Duration(*current) * time.Second)
	when := metav1.NewTime(began.Add(time.Duration(*requested) * time.Second))
	obj.SetDeletionTimestamp(&when)
	obj.SetDeletionGracePeriodSeconds(requested)
	return *requested, true, false
}

// setDeleting marks obj; its generation grows so that its controller looks.
func setDeleting(obj resource.Object, at metav1.Time, seconds int64) {
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&seconds)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
}

// markDeleting marks an object that waits for finalizers only, and reports
// whether that changed it.
func markDeleting(d *resource.Definition, obj resource.Object, now metav1.Time) bool {
	zero := int64(0)
	if obj.GetDeletionTimestamp() == nil {
		setDeleting(obj, now, zero)
		if d.BeginDelete != nil {
			d.BeginDelete(obj)
		}
		return true
	}
	if g := obj.GetDeletionGracePeriodSeconds(); g == nil || *g != 0 {
		obj.SetDeletionGracePeriodSeconds(&zero)
		return true
	}
	return false
}

// collectFinalizers sets the garbage collector's finalizers as the
// propagation policy asks, and reports a change.
func collectFinalizers(d *resource.Definition, obj resource.Object, o *metav1.DeleteOptions) bool {
	old := obj.GetFinalizers()
	orphan, foreground := wantsOrphan(d, old, o), wantsForeground(d, old, o)
	kept := make([]string, 0, len(old)+1)
	for _, f := range old {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			kept = append(kept, f)
		}
	}
	if orphan {
		kept = append(kept, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		kept = append(kept, metav1.FinalizerDeleteDependents)
	}
	if sameSet(kept, old) {
		return false
	}
	obj.SetFinalizers(kept)
	return true
}

func wantsOrphan(d *resource.Definition, finalizers []string, o *metav1.DeleteOptions) bool {
	if o.OrphanDependents != nil { //nolint:staticcheck // deprecated and still served
		return *o.OrphanDependents //nolint:staticcheck // as above
	}
	if o.PropagationPolicy != nil {
		return *o.PropagationPolicy == metav1.DeletePropagationOrphan
	}
	if slices.Contains(finalizers, metav1.FinalizerOrphanDependents) {
		return true
	}
	return d.DefaultDeletePropagation == metav1.DeletePropagationOrphan
}

func wantsForeground(d *resource.Definition, finalizers []string, o *metav1.DeleteOptions) bool {
	if o.OrphanDependents != nil { //nolint:staticcheck // deprecated and still served
		return false
	}
	if o.PropagationPolicy != nil {
		return *o.PropagationPolicy == metav1.DeletePropagationForeground
	}
	if slices.Contains(finalizers, metav1.FinalizerDeleteDependents) {
		return true
	}
	return d.DefaultDeletePropagation == metav1.DeletePropagationForeground
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// Finished says whether an update took away the last thing that held an
// object under deletion, so that it is to be removed instead of stored.
func Finished(d *resource.Definition, obj, old resource.Object) bool {
	if old.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 || !ready(d, obj) {
		return false
	}
	grace := old.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}
