//go:build linux

package volume

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// contentTmpfs are the options of file systems for small content; any user may
// enter them.
const contentTmpfs = "mode=0777"

// downwardAPI shows facts about the Pod as files in memory.
type downwardAPI struct{ source *source }

func newDownwardAPI(s *source) Driver { return &downwardAPI{source: s} }

func (*downwardAPI) Name() string { return "kubernetes.io/downward-api" }

func (*downwardAPI) Match(v *corev1.Volume) bool { return v.DownwardAPI != nil }

func (*downwardAPI) ReadOnlyContent() {}

func (*downwardAPI) Setup(_ context.Context, r Request) error { return mountTmpfs(r.Dir, contentTmpfs) }

func (d *downwardAPI) Refresh(_ context.Context, r Request) (time.Time, error) {
	v := r.Volume.DownwardAPI
	files := content{}
	if err := d.source.downwardAPI(files, r.Pod, v.Items, v.DefaultMode); err != nil {
		return never, err
	}
	return never, write(r, files)
}

func (*downwardAPI) Teardown(_ context.Context, dir string) error { return removeTree(dir) }
