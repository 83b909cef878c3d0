package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podText is a Pod with one container.
func podText(name, container, rest string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {terminationGracePeriodSeconds: 0, containers: [%s]%s}\n---\n", name, container, rest)
}

// badPods are Pods that the API takes and a node cannot run: describe says why.
func badPods(t *testing.T, k kubectl) {
	box := image("busybox")
	k.ok(t, words("create secret docker-registry wrong --docker-server="+slot.registry+" --docker-username=puller --docker-password=wrong"))
	mount := func(source string) (string, string) {
		return "{name: c, image: " + box + ", command: [sleep, '1000'], volumeMounts: [{name: v, mountPath: /v}]}", ", volumes: [{name: v, " + source + "}]"
	}
	cmContainer, cmVolume := mount("configMap: {name: later}")
	secretContainer, secretVolume := mount("secret: {secretName: later}")
	pods := []struct {
		name, container, rest string
		want                  []string
	}{
		{"no-image", "{name: c, image: " + slot.registry + "/skeg/nothing:1}", "", []string{"ErrImagePull", "image not found: " + slot.registry + "/skeg/nothing:1", "NAME_UNKNOWN"}},
		{"no-tag", "{name: c, image: " + slot.registry + "/skeg/busybox:99}", "", []string{"ImagePullBackOff", "MANIFEST_UNKNOWN"}},
		{"no-reference", "{name: c, image: 'UP:::x'}", "", []string{"InvalidImageName", `"UP:::x"`}},
		{"no-registry", "{name: c, image: '127.0.0.1:9/x:1'}", "", []string{"ErrImagePull", "connection refused"}},
		{"no-password", "{name: c, image: " + slot.registry + "/skeg/redis:1}", ", imagePullSecrets: [{name: wrong}]", []string{"ErrImagePull", "may require authorization"}},
		{"never-pull", "{name: c, image: " + slot.registry + "/skeg/other:1, imagePullPolicy: Never}", "", []string{"ErrImageNeverPull", "not present with pull policy of Never"}},
		{"no-command", "{name: c, image: " + box + ", command: [/no/such]}", "", []string{"StartError", `exec: "/no/such": stat /no/such: no such file or directory`, "Exit Code:    128", "CrashLoopBackOff"}},
		{"no-directory", "{name: c, image: " + box + ", workingDir: /etc/passwd}", "", []string{"not a directory"}},
		{"no-key", "{name: c, image: " + box + ", env: [{name: A, valueFrom: {configMapKeyRef: {name: there, key: z}}}]}", "", []string{"CreateContainerConfigError", "couldn't find key z in ConfigMap badinput/there"}},
		{"no-map", "{name: c, image: " + box + ", command: [sleep, '1000'], env: [{name: A, valueFrom: {configMapKeyRef: {name: later, key: a}}}]}", "", []string{"CreateContainerConfigError", `configmaps "later" not found`}},
		{"no-secret", "{name: c, image: " + box + ", command: [sleep, '1000'], envFrom: [{secretRef: {name: later}}]}", "", []string{"CreateContainerConfigError", `secrets "later" not found`}},
		{"map-volume", cmContainer, cmVolume, []string{"FailedMount", `MountVolume.SetUp failed for volume "v" : configmaps "later" not found`}},
		{"secret-volume", secretContainer, secretVolume, []string{"FailedMount", `MountVolume.SetUp failed for volume "v" : secrets "later" not found`}},
		{"root", "{name: c, image: " + box + ", securityContext: {runAsNonRoot: true}}", "", []string{"CreateContainerConfigError", "container has runAsNonRoot and image will run as root"}},
		{"too-big", "{name: c, image: " + box + ", resources: {requests: {cpu: 1M}}}", "", []string{"FailedScheduling", "0/2 nodes are available: 2 Insufficient cpu"}},
		{"crash", "{name: c, image: " + box + ", command: [sh, -c, 'echo dying; exit 3']}", "", []string{"CrashLoopBackOff", "Exit Code:    3", "Back-off restarting failed container c in pod crash"}},
	}
	var text strings.Builder
	for _, p := range pods {
		text.WriteString(podText(p.name, p.container, p.rest))
	}
	k.okWith(t, text.String(), words("create -f -"))
	for _, p := range pods {
		says(t, k, p.name, p.want...)
	}
	// What was missing may come later.
	k.ok(t, words("create cm later --from-literal=a=b"))
	k.ok(t, words("create secret generic later --from-literal=a=b"))
	k.ok(t, words("wait --for=condition=Ready pod/no-map pod/no-secret pod/map-volume pod/secret-volume --timeout=170s"))
	k.ok(t, words("delete pod --all --timeout=170s"))
}

// layer is an archive of the entries.
func layer(t *testing.T, entries ...tar.Header) v1.Layer {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, h := range entries {
		content := "climbed"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// push serves an image of the layers and returns its reference.
func push(t *testing.T, ref string, layers ...v1.Layer) string {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config.Cmd = "linux", "amd64", []string{"/x"}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	full, err := server.Push(t.Context(), ref, img)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

// badImages are images that lie: a layer that is not what its digest says, and
// archives that reach for the node's own files.
func badImages(t *testing.T, k kubectl) {
	const outside = "/tmp/skeg-e2e-climbed"
	up := strings.Repeat("../", 40) + outside[1:]
	var text strings.Builder
	climbers := map[string]v1.Layer{
		"climb-entry":   layer(t, tar.Header{Name: up, Typeflag: tar.TypeReg, Mode: 0o644}),
		"climb-link":    layer(t, tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: up}),
		"climb-symlink": layer(t, tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, tar.Header{Name: "d/" + outside[5:], Typeflag: tar.TypeReg, Mode: 0o644}),
	}
	for name, l := range climbers {
		text.WriteString(podText(name, "{name: c, image: "+push(t, "skeg/"+name+":1", l)+"}", ""))
	}
	good := layer(t, tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o755})
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	server.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) {
			return false
		}
		content, err := good.Compressed()
		if err != nil {
			return false
		}
		defer content.Close()
		wrong, err := io.ReadAll(content)
		if err != nil {
			return false
		}
		wrong[len(wrong)-1] ^= 1 // of the right size, too
		_, err = w.Write(wrong)
		return err == nil
	})
	t.Cleanup(func() { server.Spoil(nil) })
	lying := push(t, "skeg/lying:1", good)
	text.WriteString(podText("lying", "{name: c, image: "+lying+"}", ""))
	k.okWith(t, text.String(), words("create -f -"))

	says(t, k, "lying", "ErrImagePull", "digest")
	says(t, k, "climb-entry", "ErrImagePull", "cannot unpack layer", "climbs out of the root directory")
	says(t, k, "climb-link", "ErrImagePull", "cannot unpack layer", "climbs out of the root directory")
	says(t, k, "climb-symlink", "ErrImagePull", "cannot unpack layer", `entry "d/`) // the root has no /tmp to lead to
	if _, err := os.Lstat(outside); !os.IsNotExist(err) {
		t.Errorf("%s: %v", outside, err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			if all := strings.Join(i.Names, " "); strings.Contains(all, "skeg/lying") || strings.Contains(all, "climb-entry") || strings.Contains(all, "climb-link") {
				t.Errorf("%s has %s", n.Name, all)
			}
		}
	}
	// Nothing of the lie is kept: with the true layer the image is whole. What
	// it then runs is no program, which is an error of another kind.
	server.Spoil(nil)
	eventually(t, "the image without the lie", func(context.Context) error {
		a := k.run(t, "", "describe", "pod", "lying")
		if !strings.Contains(a.out, "Successfully pulled image") || !strings.Contains(a.out, "Last State:     Terminated") {
			return fmt.Errorf("%s", a.out)
		}
		return nil
	})
	k.ok(t, words("delete pod --all --timeout=170s"))
}
