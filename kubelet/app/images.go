package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/internal/podinfo"
	"github.com/skeg-dev/skeg/kubelet/image"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

func (k *kubelet) buildImages() (err error) {
	k.images, err = image.Open(image.Config{Root: k.options.RootDir, RegistryConfigDir: k.options.RegistryConfigDir})
	return err
}

// imageStore is lifecycle.Images.
type imageStore struct{ *image.Store }

func (s imageStore) Resolve(ctx context.Context, ref string) (lifecycle.Image, bool, error) {
	found, present, err := s.Store.Resolve(ctx, ref)
	return lifecycle.Image(found), present, imageError(err)
}

func (s imageStore) Pull(ctx context.Context, ref string, auth []lifecycle.Credential) (lifecycle.Image, error) {
	credentials := make([]image.Credential, len(auth))
	for i := range auth {
		credentials[i] = image.Credential(auth[i])
	}
	pulled, err := s.Store.Pull(ctx, ref, credentials)
	return lifecycle.Image(pulled), imageError(err)
}

func (s imageStore) ResolveUser(rootfs, user string) (lifecycle.User, error) {
	found, err := s.Store.ResolveUser(rootfs, user)
	return lifecycle.User(found), err
}

// imageError translates the class of an error.
func imageError(err error) error {
	if errors.Is(err, image.ErrInvalidReference) {
		return fmt.Errorf("%w: %w", lifecycle.ErrImageInvalid, err)
	}
	return err
}

// maxReportedImages is how many images a Node lists, the largest first
// (upstream's nodeStatusMaxImages).
const maxReportedImages = 50

// nodeImages are the images for the Node's status: the scheduler prefers nodes
// that have a large one already.
func (k *kubelet) nodeImages(ctx context.Context) ([]corev1.ContainerImage, error) {
	images, err := k.images.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []corev1.ContainerImage{}
	for _, i := range images {
		out = append(out, corev1.ContainerImage{Names: i.Names, SizeBytes: i.SizeBytes})
	}
	slices.SortStableFunc(out, func(a, b corev1.ContainerImage) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
	return out[:min(len(out), maxReportedImages)], nil
}

// imagesInUse are the images that Pods of the node name.
func (k *kubelet) imagesInUse() []string {
	var keep []string
	for _, pod := range k.pool.Pods() {
		if podinfo.IsTerminal(pod) {
			continue
		}
		podinfo.Containers(pod, func(c *corev1.Container) bool {
			keep = append(keep, c.Image)
			return true
		})
	}
	return keep
}

// reclaimDisk removes all images that nothing uses.
func (k *kubelet) reclaimDisk(ctx context.Context) error {
	freed, err := k.images.CollectAll(ctx, k.imagesInUse())
	if freed > 0 {
		k.logger.Info("removed unused images", "bytes", freed)
	}
	return err
}

const (
	// imageGCInterval and imageMinAge are upstream's.
	imageGCInterval = 5 * time.Minute
	imageMinAge     = 2 * time.Minute
)

// collectImages removes unused images while the disk is fuller than wanted.
func (k *kubelet) collectImages(ctx context.Context) error {
	ticker := k.clock.NewTicker(imageGCInterval)
	defer ticker.Stop()
	policy := image.Policy{HighPercent: k.options.ImageGCHigh, LowPercent: k.options.ImageGCLow, MinAge: imageMinAge}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		freed, err := k.images.Collect(ctx, policy, k.imagesInUse())
		if err != nil && ctx.Err() == nil {
			k.logger.Warn("removing unused images", "error", err)
		}
		if freed > 0 {
			k.logger.Info("removed unused images", "bytes", freed)
		}
	}
}
