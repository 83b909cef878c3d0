// Package history keeps former pod templates of StatefulSets and DaemonSets as
// ControllerRevisions: it finds or makes the one of the present template,
// restores templates, and removes what is beyond the limit. Called by those
// two controllers; it starts no goroutines.
package history

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// HashLabel is the label of a revision that holds its hash.
const HashLabel = "controller.kubernetes.io/hash"

// Keeper reads and writes revisions of one kind of owner.
type Keeper struct {
	// All are required; Revisions needs reconcile.IndexByOwner.
	Client    appsclient.ControllerRevisionsGetter
	Revisions cache.SharedIndexInformer
	Kind      schema.GroupVersionKind
}

// List returns the owner's revisions, oldest first, after adopting those that
// match the selector. fresh reads the owner from the API server.
func (k Keeper) List(ctx context.Context, owner metav1.Object, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*appsv1.ControllerRevision, error) {
	candidates, err := reconcile.Dependents[*appsv1.ControllerRevision](k.Revisions, owner)
	if err != nil {
		return nil, err
	}
	owned, err := reconcile.Claim[*appsv1.ControllerRevision]{
		Owner: owner, Kind: k.Kind, Selector: selector, Fresh: fresh,
		Patch: func(ctx context.Context, r *appsv1.ControllerRevision, kind types.PatchType, patch []byte) error {
			_, err := k.Client.ControllerRevisions(r.Namespace).Patch(ctx, r.Name, kind, patch, metav1.PatchOptions{})
			return err
		},
	}.Own(ctx, candidates)
	if err != nil {
		return nil, err
	}
	Sort(owned)
	return owned, nil
}

// Sort puts the lowest revision first.
func Sort(all []*appsv1.ControllerRevision) {
	slices.SortFunc(all, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// Data is what a revision stores: a strategic merge patch that replaces the
// owner's spec.template.
func Data(template *corev1.PodTemplateSpec) ([]byte, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// Template restores the template of a revision.
func Template(revision *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var stored struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &stored); err != nil {
		return nil, fmt.Errorf("decode revision %s: %w", revision.Name, err)
	}
	return &stored.Spec.Template, nil
}

// Hash is the hash of a revision's data and the collision count.
func Hash(data []byte, collisions *int32) string {
	h := fnv.New32()
	_, _ = h.Write(data) // a hash does not fail
	if collisions != nil {
		_, _ = h.Write([]byte(strconv.FormatInt(int64(*collisions), 10)))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// Equal reports whether a revision stores this data.
func Equal(revision *appsv1.ControllerRevision, data []byte) bool {
	return bytes.Equal(revision.Data.Raw, data)
}

// Wanted describes the revision of the present template.
type Wanted struct {
	Owner metav1.Object
	Data  []byte
	// Labels of the revision; Name to give it when it is made.
	Labels map[string]string
	Name   string
}

// ErrCollision says that the name is taken by other data: the caller raises
// its collision count and tries again.
var ErrCollision = fmt.Errorf("name of the revision is taken")

// Present returns the revision with the wanted data and all revisions: an
// existing one, brought to the top of the list when it is not there, or a new one.
func (k Keeper) Present(ctx context.Context, all []*appsv1.ControllerRevision, w Wanted) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision, error) {
	next := int64(1)
	if len(all) > 0 {
		next = all[len(all)-1].Revision + 1
	}
	at := slices.IndexFunc(all, func(r *appsv1.ControllerRevision) bool { return Equal(r, w.Data) })
	switch {
	case at >= 0 && at == len(all)-1:
		return all[at], all, nil
	case at >= 0:
		raised := all[at].DeepCopy()
		raised.Revision = next
		written, err := k.Client.ControllerRevisions(raised.Namespace).Update(ctx, raised, metav1.UpdateOptions{})
		if err != nil {
			return nil, nil, fmt.Errorf("raise revision %s: %w", raised.Name, err)
		}
		all = append(slices.Delete(slices.Clone(all), at, at+1), written)
		return written, all, nil
	}
	made := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: w.Name, Namespace: w.Owner.GetNamespace(), Labels: w.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(w.Owner, k.Kind)},
		},
		Data: runtime.RawExtension{Raw: w.Data}, Revision: next,
	}
	created, err := k.Client.ControllerRevisions(made.Namespace).Create(ctx, made, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		there, getErr := k.Client.ControllerRevisions(made.Namespace).Get(ctx, made.Name, metav1.GetOptions{})
		if getErr == nil && Equal(there, w.Data) && metav1.IsControlledBy(there, w.Owner) {
			return there, append(slices.Clone(all), there), nil
		}
		return nil, nil, ErrCollision
	}
	if err != nil {
		return nil, nil, fmt.Errorf("create revision: %w", err)
	}
	return created, append(slices.Clone(all), created), nil
}

// Truncate deletes the oldest revisions that are not live, down to the limit.
func (k Keeper) Truncate(ctx context.Context, all []*appsv1.ControllerRevision, limit *int32, live map[string]bool) error {
	if limit == nil {
		return nil
	}
	var unused []*appsv1.ControllerRevision
	for _, r := range all {
		if !live[r.Name] {
			unused = append(unused, r)
		}
	}
	for i := range max(len(unused)-int(*limit), 0) {
		err := k.Client.ControllerRevisions(unused[i].Namespace).Delete(ctx, unused[i].Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old revision: %w", err)
		}
	}
	return nil
}
