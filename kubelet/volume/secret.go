//go:build linux

package volume

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// secret shows the keys of a Secret as files in memory.
type secret struct{ source *source }

func newSecret(s *source) Driver { return &secret{source: s} }

func (*secret) Name() string { return "kubernetes.io/secret" }

func (*secret) Match(v *corev1.Volume) bool { return v.Secret != nil }

func (*secret) ReadOnlyContent() {}

func (*secret) Setup(_ context.Context, r Request) error { return mountTmpfs(r.Dir, contentTmpfs) }

func (d *secret) Refresh(ctx context.Context, r Request) (time.Time, error) {
	v := r.Volume.Secret
	files := content{}
	if err := d.source.secret(ctx, files, r.Pod.Namespace, v.SecretName, v.Items, v.DefaultMode, v.Optional); err != nil {
		return never, err
	}
	return never, write(r, files)
}

func (*secret) Teardown(_ context.Context, dir string) error { return removeTree(dir) }
