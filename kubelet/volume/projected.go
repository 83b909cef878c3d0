//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// projected shows several sources in one directory in memory: ConfigMaps,
// Secrets, facts about the Pod and service account tokens.
type projected struct {
	source *source
	tokens *tokens
}

func newProjected(s *source, t *tokens) Driver { return &projected{source: s, tokens: t} }

func (*projected) Name() string { return "kubernetes.io/projected" }

func (*projected) Match(v *corev1.Volume) bool { return v.Projected != nil }

func (*projected) ReadOnlyContent() {}

func (*projected) Setup(_ context.Context, r Request) error { return mountTmpfs(r.Dir, contentTmpfs) }

func (d *projected) Refresh(ctx context.Context, r Request) (time.Time, error) {
	files := content{}
	var due time.Time
	var errs []error
	for i := range r.Volume.Projected.Sources {
		again, err := d.add(ctx, files, r, &r.Volume.Projected.Sources[i])
		errs = append(errs, err)
		due = sooner(due, again)
	}
	if err := errors.Join(errs...); err != nil {
		return due, err
	}
	return due, write(r, files)
}

func (d *projected) add(ctx context.Context, into content, r Request, s *corev1.VolumeProjection) (time.Time, error) {
	mode := r.Volume.Projected.DefaultMode
	switch {
	case s.ConfigMap != nil:
		return never, d.source.configMap(ctx, into, r.Pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return never, d.source.secret(ctx, into, r.Pod.Namespace, s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return never, d.source.downwardAPI(into, r.Pod, s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		token, again, err := d.tokens.token(ctx, r.Pod, s.ServiceAccountToken)
		if err != nil {
			return again, err
		}
		into[s.ServiceAccountToken.Path] = tokenFile(r.Pod, []byte(token), modeOf(nil, mode))
		return again, nil
	default:
		return never, fmt.Errorf("volume %q has a source that this node does not support", r.Volume.Name)
	}
}

// tokenFile is readable for the Pod's group or only user where there is one,
// and nobody else (KEP-1205).
func tokenFile(pod *corev1.Pod, data []byte, mode fs.FileMode) file {
	f := file{data: data, mode: mode, owner: fsUser(pod)}
	if fsGroup(pod) != nil || f.owner != nil {
		f.mode = 0o600
	}
	return f
}

func (d *projected) Teardown(_ context.Context, dir string) error {
	// <root>/pods/<uid>/volumes/<driver>/<volume>
	uid := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(dir))))
	d.tokens.forget(uid)
	return removeTree(dir)
}
