//go:build linux

// Package volume makes the directories and files that Pods mount: one Driver
// per type of volume, found through the registry, and Volumes, which sets a
// Pod's volumes up, resolves its containers' mounts, keeps content that
// follows the API current, and takes everything down again from what is on
// disk. The kubelet's lifecycle calls Volumes; it calls kubelet/volume/objects
// and the API (token requests). Goroutines: those of Run.
//
// On disk, below the Pod's directory (the definition of the layout; upstream's
// kubelet has the same):
//
//	volumes/<driver, "/" as "~">/<volume>/            content
//	volume-subpaths/<volume>/<container>/<index>      bind mount of a subPath
package volume

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
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/kubelet/volume/objects"
)

// Request is one volume of one Pod. The objects must not be changed.
type Request struct {
	Pod    *corev1.Pod
	Volume *corev1.Volume
	// Dir is where the volume's content lives.
	Dir string
}

// Driver makes volumes of one type. All methods may be repeated, also after a
// crash in the middle, and are never called twice at once for one Pod.
type Driver interface {
	// Name is "kubernetes.io/empty-dir" and the like.
	Name() string
	// Match reports whether the volume is of this type.
	Match(v *corev1.Volume) bool
	// Setup makes the volume usable; on a finished one it changes nothing
	// (or refreshes the content).
	Setup(ctx context.Context, r Request) error
	// Teardown removes the volume, knowing its directory alone.
	Teardown(ctx context.Context, dir string) error
}

// Refresher is a Driver whose content follows the API. Refresh brings it up to
// date and returns when to call it again even if nothing changes; zero is
// never.
type Refresher interface {
	Refresh(ctx context.Context, r Request) (again time.Time, err error)
}

// Placer is a Driver whose content is not in Request.Dir.
type Placer interface {
	Path(r Request) string
}

// ReadOnlyContent marks Drivers whose content only the kubelet writes: it is
// mounted read-only into every container.
type ReadOnlyContent interface {
	ReadOnlyContent()
}

// Config is what Volumes needs.
type Config struct {
	// Root is the kubelet's directory; Pods are in <Root>/pods/<uid>. Required.
	Root string
	// Client requests service account tokens; required for these.
	Client kubernetes.Interface
	// Objects has ConfigMaps and Secrets; required.
	Objects *objects.Store
	// Allocatable is what the node has to give, for resourceFieldRef without
	// a limit; nil is nothing.
	Allocatable func() corev1.ResourceList
	// Env is the container's environment, for subPathExpr; nil is empty.
	Env func(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, error)
	// Log must not be nil.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Volumes looks after the volumes of all Pods of the node. Its methods are
// safe for concurrent use.
type Volumes struct {
	config  Config
	drivers []Driver

	mu    sync.Mutex // guards pods and the fields of podState but busy's
	pods  map[types.UID]*podState
	dirty chan struct{} // of size 1: some Pod is stale
}

// podState is a Pod whose volumes are (being) set up.
type podState struct {
	busy  sync.Mutex // held while drivers work for the Pod
	pod   *corev1.Pod
	due   time.Time // next refresh; zero is never
	stale bool      // an object it refers to changed
	tries int       // failed refreshes in a row
}

// DriverOf is the name of the driver that serves a volume; "" for none.
func (v *Volumes) DriverOf(volume *corev1.Volume) string {
	for _, d := range v.drivers {
		if d.Match(volume) {
			return d.Name()
		}
	}
	return ""
}

// New returns Volumes with all drivers. It has config.Objects tell of changes.
func New(config Config) (*Volumes, error) {
	if config.Root == "" || config.Objects == nil || config.Log == nil {
		return nil, errors.New("volume: Root, Objects and Log are required")
	}
	if config.Allocatable == nil {
		config.Allocatable = func() corev1.ResourceList { return nil }
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Volumes{
		config: config, drivers: drivers(config),
		pods: map[types.UID]*podState{}, dirty: make(chan struct{}, 1),
	}
	config.Objects.Notify(v.markStale)
	return v, nil
}

// Setup makes all volumes of the Pod usable, and keeps them current from then
// on. It stops at the first error, whose text is for users.
func (v *Volumes) Setup(ctx context.Context, pod *corev1.Pod) error {
	v.config.Objects.Track(pod)
	state := v.remember(pod)
	state.busy.Lock()
	defer state.busy.Unlock()
	var due time.Time
	for i := range pod.Spec.Volumes {
		r, d, err := v.request(pod, &pod.Spec.Volumes[i])
		if err != nil {
			return err
		}
		again, err := setupOne(ctx, d, r)
		if err != nil {
			return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", r.Volume.Name, err)
		}
		due = sooner(due, again)
	}
	v.mu.Lock()
	state.due, state.tries = due, 0
	v.mu.Unlock()
	v.wake()
	return nil
}

func setupOne(ctx context.Context, d Driver, r Request) (time.Time, error) {
	if err := d.Setup(ctx, r); err != nil {
		return time.Time{}, err
	}
	if refresher, ok := d.(Refresher); ok {
		return refresher.Refresh(ctx, r)
	}
	return time.Time{}, nil
}

// Refresh brings content that follows the API up to the given object of the
// Pod.
func (v *Volumes) Refresh(ctx context.Context, pod *corev1.Pod) error {
	v.config.Objects.Track(pod)
	state := v.remember(pod)
	return v.refresh(ctx, pod, state)
}

func (v *Volumes) refresh(ctx context.Context, pod *corev1.Pod, state *podState) error {
	state.busy.Lock()
	defer state.busy.Unlock()
	var due time.Time
	var errs []error
	for i := range pod.Spec.Volumes {
		r, d, err := v.request(pod, &pod.Spec.Volumes[i])
		if err != nil {
			return err
		}
		refresher, ok := d.(Refresher)
		if !ok {
			continue
		}
		if _, err := os.Lstat(r.Dir); errors.Is(err, fs.ErrNotExist) {
			continue // not set up yet, or gone already
		}
		again, err := refresher.Refresh(ctx, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("refresh volume %q: %w", r.Volume.Name, err))
		}
		due = sooner(due, again)
	}
	err := errors.Join(errs...)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		state.tries++
		due = sooner(due, v.config.Now().Add(retryDelay(state.tries)))
	} else {
		state.tries = 0
	}
	state.due = due
	v.wake()
	return err
}

// Teardown removes all volumes of the Pod, from what is on disk.
func (v *Volumes) Teardown(ctx context.Context, uid types.UID) error {
	v.config.Objects.Untrack(uid)
	v.mu.Lock()
	state := v.pods[uid]
	delete(v.pods, uid)
	v.mu.Unlock()
	if state != nil {
		state.busy.Lock()
		defer state.busy.Unlock()
	}
	podDir, err := v.podDir(uid)
	if err != nil {
		return err
	}
	if err := removeTree(filepath.Join(podDir, "volume-subpaths")); err != nil {
		return err
	}
	volumes := filepath.Join(podDir, "volumes")
	byDriver, err := readDir(volumes)
	if err != nil {
		return err
	}
	var errs []error
	for _, driverDir := range byDriver {
		names, err := readDir(filepath.Join(volumes, driverDir))
		if err != nil {
			return err
		}
		for _, name := range names {
			dir := filepath.Join(volumes, driverDir, name)
			errs = append(errs, v.teardownOne(ctx, driverDir, dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return removeTree(volumes)
}

func (v *Volumes) teardownOne(ctx context.Context, driverDir, dir string) error {
	for _, d := range v.drivers {
		if dirName(d) == driverDir {
			if err := d.Teardown(ctx, dir); err != nil {
				return fmt.Errorf("tear down volume %s: %w", filepath.Base(dir), err)
			}
			return nil
		}
	}
	return removeTree(dir)
}

func readDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// request finds the volume's driver and directory.
func (v *Volumes) request(pod *corev1.Pod, volume *corev1.Volume) (Request, Driver, error) {
	podDir, err := v.podDir(pod.UID)
	if err != nil {
		return Request{}, nil, err
	}
	for _, d := range v.drivers {
		if d.Match(volume) {
			return Request{Pod: pod, Volume: volume, Dir: filepath.Join(podDir, "volumes", dirName(d), volume.Name)}, d, nil
		}
	}
	return Request{}, nil, fmt.Errorf("volume %q is of a type that this node does not support", volume.Name)
}

func (v *Volumes) podDir(uid types.UID) (string, error) {
	if name := string(uid); !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", fmt.Errorf("pod UID %q cannot name a directory", uid)
	}
	return filepath.Join(v.config.Root, "pods", string(uid)), nil
}

// remember notes the Pod's newest object.
func (v *Volumes) remember(pod *corev1.Pod) *podState {
	v.mu.Lock()
	defer v.mu.Unlock()
	state := v.pods[pod.UID]
	if state == nil {
		state = &podState{}
		v.pods[pod.UID] = state
	}
	state.pod = pod
	return state
}

func dirName(d Driver) string { return strings.ReplaceAll(d.Name(), "/", "~") }

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
