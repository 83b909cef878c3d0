//go:build linux

package volume

import (
	"context"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// configMap shows the keys of a ConfigMap as files.
type configMap struct{ source *source }

func newConfigMap(s *source) Driver { return &configMap{source: s} }

func (*configMap) Name() string { return "kubernetes.io/configmap" }

func (*configMap) Match(v *corev1.Volume) bool { return v.ConfigMap != nil }

func (*configMap) ReadOnlyContent() {}

func (*configMap) Setup(_ context.Context, r Request) error { return os.MkdirAll(r.Dir, 0o777) }

func (d *configMap) Refresh(ctx context.Context, r Request) (time.Time, error) {
	v := r.Volume.ConfigMap
	files := content{}
	if err := d.source.configMap(ctx, files, r.Pod.Namespace, v.Name, v.Items, v.DefaultMode, v.Optional); err != nil {
		return never, err
	}
	return never, write(r, files)
}

func (*configMap) Teardown(_ context.Context, dir string) error { return removeTree(dir) }
