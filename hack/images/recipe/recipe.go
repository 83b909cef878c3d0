// Package recipe makes images, the same bytes from the same inputs: files are
// sorted, times are those of the packages or the epoch, nothing says when or
// where an image was made. registry.go lists the images. The images command
// and tests call it; it runs go, apt-get and dpkg-deb. Starts no goroutines.
package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Recipe makes one image.
type Recipe struct {
	Name string
	Ref  string // the reference the archive names it by
	// Layers makes the image's layers, the lowest first.
	Layers func(ctx context.Context) ([]*Layer, error)
	Config v1.Config
}

// Image makes an image by its name in the list.
func Image(ctx context.Context, imageName string) (v1.Image, Recipe, error) {
	for _, r := range All() {
		if r.Name == imageName {
			img, err := r.image(ctx)
			if err != nil {
				return nil, r, fmt.Errorf("make image %q: %w", imageName, err)
			}
			return img, r, nil
		}
	}
	var known []string
	for _, r := range All() {
		known = append(known, r.Name)
	}
	return nil, Recipe{}, fmt.Errorf("no image %q; there are %s", imageName, strings.Join(known, ", "))
}

func (r Recipe) image(ctx context.Context) (v1.Image, error) {
	layers, err := r.Layers(ctx)
	if err != nil {
		return nil, err
	}
	img := v1.Image(empty.Image)
	for _, l := range layers {
		made, err := l.layer()
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, made); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", r.Config
	return mutate.ConfigFile(img, file)
}

// Write makes an image into an archive, which is whole if it is there.
func Write(ctx context.Context, imageName, path string) error {
	img, r, err := Image(ctx, imageName)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(r.Ref)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".image-")
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	err = tarball.Write(tag, img, f)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write image: %w", err), os.Remove(f.Name()))
	}
	return nil
}
