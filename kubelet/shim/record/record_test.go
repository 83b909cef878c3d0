package record

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	d := Dir(filepath.Join(t.TempDir(), "uid"))
	if _, err := d.Sandbox(); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("no sandbox: %v", err)
	}
	if all, err := d.Statuses(); err != nil || len(all) != 0 {
		t.Errorf("no containers: %v, %v", all, err)
	}
	if err := d.WriteSandbox(Sandbox{Spec: container.SandboxSpec{Pod: "uid", CgroupParent: "kubepods/poduid"}}); err != nil {
		t.Fatal(err)
	}
	id := container.ID{Pod: "uid", Name: "main", Attempt: 2}
	if err := d.Create(container.Spec{ID: id, Args: []string{"x"}}, container.Status{ID: id, State: container.Created}); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteStatus(container.Status{ID: id, State: container.Exited, ExitCode: 3}); err != nil {
		t.Fatal(err)
	}
	// What a crash in the middle of a creation leaves.
	if err := os.MkdirAll(filepath.Join(string(d), "containers", "half_0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(d), "containers", "half_0", ".status.json.1"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := d.Statuses()
	if err != nil || len(all) != 1 || all[0].ID != id || all[0].ExitCode != 3 {
		t.Errorf("statuses %+v, %v", all, err)
	}
	sb, err := d.Sandbox()
	if err != nil || Cgroup(sb.Spec, id) != "/kubepods/poduid/main_2" {
		t.Errorf("sandbox %+v, %v", sb, err)
	}
	for range 2 {
		if err := d.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Spec(id); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("spec after removal: %v", err)
	}
}

func TestLockIsForOne(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	first, held, err := d.Lock()
	if err != nil || held {
		t.Fatalf("first: %v, %v", held, err)
	}
	if _, held, err := d.Lock(); err != nil || !held {
		t.Errorf("second: %v, %v", held, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, held, err := d.Lock()
	if err != nil || held {
		t.Fatalf("after release: %v, %v", held, err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"web": true, "a-b": true, "": false, ".": false, "..": false, "a/b": false, "a_b": false, "a\x00": false} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
}
