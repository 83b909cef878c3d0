//go:build linux

package volume

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/kubelet/podenv/fieldref"
)

// file is one file of a volume's content.
type file struct {
	data  []byte
	mode  fs.FileMode
	owner *int64 // nil is root
}

// content maps paths relative to the volume to files.
type content map[string]file

// defaultMode is that of the API (ConfigMapVolumeSource.defaultMode), for
// objects that came without defaults (static Pods).
const defaultMode = 0o644

func modeOf(mode, fallback *int32) fs.FileMode {
	switch {
	case mode != nil:
		return fs.FileMode(*mode)
	case fallback != nil:
		return fs.FileMode(*fallback)
	default:
		return defaultMode
	}
}

// source reads content from the API.
type source struct {
	config Config
}

func (s *source) configMap(ctx context.Context, into content, namespace, name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	cm, err := s.config.Objects.ConfigMap(ctx, namespace, name)
	if missing(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	all := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		all[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		all[k] = v
	}
	return project(into, all, items, mode, optional, "configmap")
}

func (s *source) secret(ctx context.Context, into content, namespace, name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	secret, err := s.config.Objects.Secret(ctx, namespace, name)
	if missing(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	return project(into, secret.Data, items, mode, optional, "secret")
}

func missing(err error, optional *bool) bool {
	return apierrors.IsNotFound(err) && optional != nil && *optional
}

// project puts all keys, or those the items name, at their paths.
func project(into content, all map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, kind string) error {
	if len(items) == 0 {
		for k, v := range all {
			into[k] = file{data: v, mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		data, ok := all[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("%s references non-existent config key: %s", kind, item.Key)
		}
		into[item.Path] = file{data: data, mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (s *source) downwardAPI(into content, pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = fieldref.Metadata(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = s.resource(pod, item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		into[item.Path] = file{data: []byte(text), mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (s *source) resource(pod *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error) {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == ref.ContainerName {
				return fieldref.Resource(&list[i], ref.Resource, ref.Divisor, s.config.Allocatable())
			}
		}
	}
	return "", fmt.Errorf("container %s not found", ref.ContainerName)
}

// never is the time of the next refresh of content that only changes with its
// objects.
var never time.Time
