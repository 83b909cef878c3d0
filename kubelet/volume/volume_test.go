//go:build linux

package volume_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/volume"
	"github.com/skeg-dev/skeg/kubelet/volume/objects"
)

const patience = 60 * time.Second

// node is a Volumes with everything around it.
type node struct {
	*volume.Volumes
	root   string
	client *fake.Clientset
	issued int
	life   time.Duration
}

func newNode(t *testing.T, existing ...runtime.Object) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	n := &node{root: t.TempDir(), client: fake.NewClientset(existing...), life: time.Hour}
	n.client.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "token" {
			return false, nil, nil
		}
		n.issued++
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{
			Token: fmt.Sprintf("token-%d", n.issued), ExpirationTimestamp: metav1.NewTime(time.Now().Add(n.life)),
		}}, nil
	})
	store := objects.New(n.client)
	var err error
	n.Volumes, err = volume.New(volume.Config{
		Root: n.root, Client: n.client, Objects: store, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
		},
		Env: func(context.Context, *corev1.Pod, *corev1.Container) ([]string, error) {
			return []string{"WHO=me"}, nil
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = store.Run(ctx); done <- struct{}{} }()
	go func() { _ = n.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
		must(t, n.Teardown(context.Background(), "u1"))
		if left, err := os.ReadDir(filepath.Join(n.root, "pods", "u1")); err != nil || len(left) != 0 {
			t.Errorf("after teardown: %v, %v", left, err)
		}
	})
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pod(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default", Volumes: volumes,
			Containers: []corev1.Container{{Name: "c"}},
		},
	}
}

func (n *node) dir(driver, name string) string {
	return filepath.Join(n.root, "pods", "u1", "volumes", "kubernetes.io~"+driver, name)
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	must(t, err)
	return string(data)
}

func mode(t *testing.T, parts ...string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(filepath.Join(parts...))
	must(t, err)
	return info.Mode()
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-ctx.Done():
			t.Fatal("never: " + what)
		case <-tick.C:
		}
	}
}

func configMapObject(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "conf", Namespace: "shop"}, Data: data}
}

func configMapVolume(items ...corev1.KeyToPath) corev1.Volume {
	return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Items: items,
	}}}
}

func TestConfigMapFollowsTheObject(t *testing.T) {
	n := newNode(t, configMapObject(map[string]string{"a": "1", "b": "2"}))
	must(t, n.Setup(t.Context(), pod(configMapVolume())))
	dir := n.dir("configmap", "v")
	if read(t, dir, "a") != "1" || read(t, dir, "b") != "2" || mode(t, dir, "a") != 0o644 {
		t.Fatal("wrong content")
	}
	before, err := os.Readlink(filepath.Join(dir, "..data"))
	must(t, err)
	must(t, n.Setup(t.Context(), pod(configMapVolume())))
	if again, _ := os.Readlink(filepath.Join(dir, "..data")); again != before {
		t.Error("unchanged content was written again")
	}

	eventually(t, "the volume follows", func() bool {
		// The fake's watch has no history: a change before it began is lost.
		_, err := n.client.CoreV1().ConfigMaps("shop").Update(t.Context(), configMapObject(map[string]string{"a": "one", "c": "3"}), metav1.UpdateOptions{})
		must(t, err)
		data, err := os.ReadFile(filepath.Join(dir, "c"))
		return err == nil && string(data) == "3"
	})
	if read(t, dir, "a") != "one" {
		t.Error("a was not updated together with c")
	}
	eventually(t, "the old key goes", func() bool {
		_, err := os.Lstat(filepath.Join(dir, "b"))
		return os.IsNotExist(err)
	})
}

func TestItemsModesAndOptional(t *testing.T) {
	n := newNode(t, configMapObject(map[string]string{"a": "1", "b": "2"}))
	p := pod(configMapVolume(corev1.KeyToPath{Key: "a", Path: "deep/er/a.conf", Mode: ptr.To[int32](0o400)}))
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](2000)}
	must(t, n.Setup(t.Context(), p))
	file := filepath.Join(n.dir("configmap", "v"), "deep/er/a.conf")
	info, err := os.Stat(file)
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o440 || stat.Gid != 2000 {
		t.Errorf("mode %v, group %d", info.Mode(), stat.Gid)
	}

	bad := pod(configMapVolume(corev1.KeyToPath{Key: "zzz", Path: "x"}))
	err = n.Setup(t.Context(), bad)
	if err == nil || !strings.Contains(err.Error(), "references non-existent config key: zzz") {
		t.Errorf("got %v", err)
	}
	for _, path := range []string{"../x", "/x", "..x", "a/../../x"} {
		if err := n.Setup(t.Context(), pod(configMapVolume(corev1.KeyToPath{Key: "a", Path: path}))); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
	none := pod(corev1.Volume{Name: "o", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: ptr.To(true)}}})
	must(t, n.Setup(t.Context(), none))
	none.Spec.Volumes[0].Secret.Optional = nil
	if err := n.Setup(t.Context(), none); err == nil || !strings.Contains(err.Error(), `"none" not found`) {
		t.Errorf("got %v", err)
	}
}

func TestProjected(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "shop"}, Data: map[string][]byte{"key": []byte("hush")}}
	n := newNode(t, configMapObject(map[string]string{"ca.crt": "CA"}), secret)
	n.life = 0 // every look finds it due
	p := pod(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3607)}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"}},
		}}},
	}}}})
	must(t, n.Setup(t.Context(), p))
	dir := n.dir("projected", "v")
	for name, want := range map[string]string{"ca.crt": "CA", "key": "hush", "namespace": "shop", "labels": `app="web"`, "cpu": "4"} {
		if got := read(t, dir, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	eventually(t, "the token is replaced", func() bool { return read(t, dir, "token") > "token-1" })

	newer := p.DeepCopy()
	newer.Labels["app"] = "web2"
	must(t, n.Refresh(t.Context(), newer))
	if got := read(t, dir, "labels"); got != `app="web2"` {
		t.Errorf("labels: %q", got)
	}
	mounts, err := n.Mounts(t.Context(), p, &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/var/run"}}})
	must(t, err)
	if !mounts[0].ReadOnly || mounts[0].Source != dir {
		t.Errorf("mount: %+v", mounts[0])
	}
}

func TestEmptyDirAndSubPath(t *testing.T) {
	n := newNode(t)
	p := pod(
		corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("1Mi")),
		}}})
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](3000)}
	for range 2 {
		must(t, n.Setup(t.Context(), p))
	}
	disk, mem := n.dir("empty-dir", "disk"), n.dir("empty-dir", "mem")
	if got := mode(t, disk); got != fs.ModeDir|fs.ModeSetgid|0o777 {
		t.Errorf("mode %v", got)
	}
	if err := os.WriteFile(filepath.Join(mem, "big"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("wrote more than the limit")
	}

	must(t, os.Symlink("/etc", filepath.Join(disk, "escape")))
	must(t, os.Symlink("../../../../../../../../etc", filepath.Join(disk, "climb")))
	must(t, os.WriteFile(filepath.Join(disk, "file"), []byte("x"), 0o600))
	c := func(sub, expr string) *corev1.Container {
		return &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "disk", MountPath: "/data", SubPath: sub, SubPathExpr: expr}}}
	}
	for _, bad := range []string{"escape", "escape/passwd", "climb", "../x", "/abs"} {
		if _, err := n.Mounts(t.Context(), p, c(bad, "")); err == nil {
			t.Errorf("subPath %q was accepted", bad)
		}
	}
	if _, err := n.Mounts(t.Context(), p, c("", "x-$(NOBODY)")); err == nil {
		t.Error("unknown variable in subPathExpr was accepted")
	}
	for _, good := range [][2]string{{"file", ""}, {"new/dir", ""}, {"", "for-$(WHO)"}} {
		for range 2 {
			mounts, err := n.Mounts(t.Context(), p, c(good[0], good[1]))
			must(t, err)
			want := filepath.Join(disk, good[0])
			if good[1] != "" {
				want = filepath.Join(disk, "for-me")
			}
			a, err := os.Stat(want)
			must(t, err)
			b, err := os.Stat(mounts[0].Source)
			must(t, err)
			if !os.SameFile(a, b) {
				t.Errorf("%v is mounted from something else", good)
			}
		}
	}
}

func TestHostPathTypes(t *testing.T) {
	n := newNode(t)
	base := t.TempDir()
	must(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(base, "dir"), 0o755))
	for _, test := range []struct {
		name string
		kind corev1.HostPathType
		want string
	}{
		{"file", corev1.HostPathFile, ""},
		{"file", corev1.HostPathDirectory, "is not a directory"},
		{"dir", corev1.HostPathDirectory, ""},
		{"dir", corev1.HostPathSocket, "is not a socket file"},
		{"none", corev1.HostPathFile, "is not a file"},
		{"made", corev1.HostPathDirectoryOrCreate, ""},
		{"madefile", corev1.HostPathFileOrCreate, ""},
		{"made", corev1.HostPathUnset, ""},
	} {
		path := filepath.Join(base, test.name)
		p := pod(corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: ptr.To(test.kind)}}})
		err := n.Setup(t.Context(), p)
		if test.want == "" {
			must(t, err)
			mounts, err := n.Mounts(t.Context(), p, &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "h", MountPath: "/h"}}})
			must(t, err)
			if mounts[0].Source != path {
				t.Errorf("source %s", mounts[0].Source)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s as %s: %v", test.name, test.kind, err)
		}
	}
	must(t, n.Teardown(t.Context(), "u1"))
	entries, err := os.ReadDir(base)
	must(t, err)
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "made" }) {
		t.Error("teardown removed the host's directory")
	}
	must(t, os.MkdirAll(filepath.Join(n.root, "pods", "u1"), 0o755))
}
