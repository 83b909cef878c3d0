package checkpoint

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func record(uid, boot string) Record {
	return Record{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID(uid)}}, BootID: boot}
}

func TestSaveLoadDelete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{record("one", "1"), record("two", "1"), record("one", "2")} {
		if err := store.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Delete("two"); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete("two"); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
	records, err := store.Load()
	if err != nil || len(records) != 1 || records[0].Pod.UID != "one" || records[0].BootID != "2" {
		t.Errorf("records %+v, %v", records, err)
	}
}

func TestTornFilesAreToldAndRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Save(record("good", "1")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"torn.json": `{"pod": {`, "empty.json": "{}", ".good.123": "half"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, err := store.Load()
	if err == nil || len(records) != 1 {
		t.Errorf("records %+v, %v", records, err)
	}
	if records, err = store.Load(); err != nil || len(records) != 1 {
		t.Errorf("second time: %+v, %v", records, err)
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	t.Parallel()
	store, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"", "..", "../x", "a/b", ".hidden"} {
		if err := store.Save(record(uid, "1")); err == nil {
			t.Errorf("uid %q was taken", uid)
		}
	}
}
