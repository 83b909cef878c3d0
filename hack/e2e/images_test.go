package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/skeg-dev/skeg/hack/images/recipe"
	"github.com/skeg-dev/skeg/hack/images/registry"
)

// What the registry wants from those who pull.
const (
	registryUser     = "puller"
	registryPassword = "only-with-this"
)

// images are what it serves.
var images = []string{"demo", "busybox", "nginx", "nginx2", "redis"}

var server *registry.Server

// writeMirrors makes the directory that lets kubelets speak plain HTTP with
// the registry: its address is the host's, not loopback.
func writeMirrors() (string, error) {
	dir := filepath.Join(os.TempDir(), slot.name+"-mirrors")
	path := filepath.Join(dir, slot.registry)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(path, "hosts.toml"), []byte(fmt.Sprintf("server = %q\n", "http://"+slot.registry)), 0o644)
}

// startRegistry builds the images that are missing and serves them at the
// cluster's address of the host.
func startRegistry(ctx context.Context) error {
	var err error
	if server, err = registry.Start(registry.Config{Listen: slot.registry, User: registryUser, Password: registryPassword}); err != nil {
		return err
	}
	for _, name := range images {
		path := filepath.Join(root, "bin", name+"-image.tar")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := recipe.Write(ctx, name, path); err != nil {
				return fmt.Errorf("build image %s: %w", name, err)
			}
		}
		if _, err := server.Load(ctx, path); err != nil {
			return fmt.Errorf("serve image %s: %w", name, err)
		}
	}
	return nil
}

func stopRegistry() {
	if server != nil {
		server.Close()
	}
	os.RemoveAll(filepath.Join(os.TempDir(), slot.name+"-mirrors"))
}

// image is the reference of one of images in the registry.
func image(name string) string {
	tag := "1"
	if name == "nginx2" {
		name, tag = "nginx", "2"
	}
	return slot.registry + "/skeg/" + name + ":" + tag
}

// pullSecret lets the namespace's default service account pull.
func pullSecret(t *testing.T, namespace string) {
	t.Helper()
	must(t, "-n", namespace, "create", "secret", "docker-registry", "registry",
		"--docker-server="+slot.registry, "--docker-username="+registryUser, "--docker-password="+registryPassword)
	eventually(t, "service account", func(ctx context.Context) error {
		_, err := ctl(ctx, "-n", namespace, "patch", "serviceaccount", "default", "-p", `{"imagePullSecrets":[{"name":"registry"}]}`)
		return err
	})
}
