package podsource

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/internal/podinfo"
)

// Static is the source of Pods from a directory of manifests (or one file).
type Static struct {
	Path     string
	NodeName string
	Sink     Sink
	Mirrors  *Mirrors
	Barrier  *Barrier
	// Every is how often the directory is read even if nothing seems to have
	// changed (file systems that do not notify).
	Every  time.Duration
	Clock  clock.WithTicker
	Logger *slog.Logger

	// current is what was applied, by file; only Run uses it.
	current map[string]*corev1.Pod
}

// maxManifestBytes bounds what is read of one file.
const maxManifestBytes = 10 << 20

// Run follows the directory until ctx ends.
func (s *Static) Run(ctx context.Context) error {
	s.current = map[string]*corev1.Pod{}
	changes := s.notify(ctx)
	ticker := s.Clock.NewTicker(s.Every)
	defer ticker.Stop()
	s.read()
	s.Barrier.Done()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-ticker.C():
		}
		s.read()
	}
}

// notify reports changes in the directory by inotify; without it the ticker
// does.
func (s *Static) notify(ctx context.Context) <-chan struct{} {
	changes := make(chan struct{}, 1)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.Logger.Warn("following manifests by time only", "error", err)
		return changes
	}
	file := os.NewFile(uintptr(fd), "inotify")
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, s.Path, mask); err != nil {
		s.Logger.Warn("following manifests by time only", "error", errors.Join(err, file.Close()))
		return changes
	}
	context.AfterFunc(ctx, func() {
		if err := file.Close(); err != nil {
			s.Logger.Debug("closing inotify", "error", err)
		}
	})
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			if _, err := file.Read(buffer); err != nil {
				return // closed
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes
}

// read brings the Sink up to the directory. A file that cannot be read or
// parsed leaves its Pod as it was.
func (s *Static) read() {
	files, err := s.files()
	if err != nil {
		s.Logger.Error("listing manifests", "path", s.Path, "error", err)
		return
	}
	for _, path := range files {
		pod, err := ReadManifest(path, s.NodeName, s.Clock.Now())
		if err != nil {
			s.Logger.Error("reading manifest", "file", path, "error", err)
			continue
		}
		old := s.current[path]
		if old != nil && old.UID == pod.UID {
			continue
		}
		if old != nil {
			s.remove(old)
		}
		s.current[path] = pod
		s.Logger.Info("manifest is wanted", "file", path, "pod", key(pod))
		s.Mirrors.want(pod)
		s.Sink.Apply(pod)
	}
	kept := map[string]bool{}
	for _, path := range files {
		kept[path] = true
	}
	for path, pod := range s.current {
		if !kept[path] {
			delete(s.current, path)
			s.remove(pod)
		}
	}
}

func (s *Static) remove(pod *corev1.Pod) {
	s.Logger.Info("manifest is gone", "pod", key(pod))
	s.Mirrors.unwant(pod)
	s.Sink.Remove(pod)
}

func (s *Static) files() ([]string, error) {
	info, err := os.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{s.Path}, nil
	}
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		// Editors' and half-written files begin with a dot.
		if !strings.HasPrefix(entry.Name(), ".") && !entry.IsDir() {
			files = append(files, filepath.Join(s.Path, entry.Name()))
		}
	}
	return files, nil
}

// ReadManifest reads a Pod from a file and completes it as upstream does: its
// name carries the node's, its UID is a hash of where and what it is.
func ReadManifest(path, nodeName string, seen time.Time) (*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifestBytes {
		return nil, fmt.Errorf("manifest has %d bytes, at most %d are read", info.Size(), maxManifestBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(data, pod); err != nil {
		return nil, fmt.Errorf("decode pod: %w", err)
	}
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return nil, fmt.Errorf("manifest holds a %s %q, not a v1 Pod", pod.APIVersion, pod.Kind)
	}
	if pod.Name == "" || len(pod.Spec.Containers) == 0 {
		return nil, errors.New("pod needs a name and a container")
	}
	sum := md5.New()
	fmt.Fprintf(sum, "host:%s\nfile:%s\n", nodeName, path)
	sum.Write(data)
	hash := hex.EncodeToString(sum.Sum(nil))
	pod.Name += "-" + strings.ToLower(nodeName)
	if pod.Namespace == "" {
		pod.Namespace = "default"
	}
	pod.UID = types.UID(hash)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotationSource] = "file"
	pod.Annotations[annotationHash] = hash
	pod.Annotations[annotationSeen] = seen.Format(time.RFC3339Nano)
	pod.Spec.NodeName = nodeName
	// A Pod of the node itself is not driven off it.
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
		Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
	})
	setDefaults(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podinfo.ComputeQOSClass(pod)}
	return pod, nil
}
