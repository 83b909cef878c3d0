// Package checkpoint keeps what the kubelet must remember of its Pods over a
// restart, beside what the API and the container runtime tell it:
//
//	<dir>/                  0700
//	    <pod uid>.json      one Record, 0600
//	    .<pod uid>.*        a write that was cut short; removed on Load
//
// kubelet/podworker calls it. Files are replaced atomically; one that is torn
// all the same is reported and removed, since a Record can be done without.
// It starts no goroutines.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Record is one Pod that was admitted to the node.
type Record struct {
	// Pod as last seen, so that it can be ended properly when it was deleted
	// while the kubelet was away.
	Pod *corev1.Pod `json:"pod"`
	// BootID of the node when the Pod's sandbox was made; another one means
	// that the sandbox is gone.
	BootID    string    `json:"bootID"`
	StartTime time.Time `json:"startTime"`
	// Final is the status of a Pod that has ended, kept until its object goes.
	Final *corev1.PodStatus `json:"final,omitempty"`
}

// Store is a directory of Records. It is safe for concurrent use on different
// Pods.
type Store struct {
	dir string
}

// New opens the directory and creates it if needed.
func New(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make checkpoint directory: %w", err)
	}
	return &Store{dir: dir}, nil
}

func (s *Store) path(uid types.UID) (string, error) {
	name := string(uid)
	if name == "" || name != filepath.Base(name) || name[0] == '.' {
		return "", fmt.Errorf("pod uid %q cannot name a file", uid)
	}
	return filepath.Join(s.dir, name+".json"), nil
}

// Save replaces the Pod's Record.
func (s *Store) Save(record Record) error {
	path, err := s.path(record.Pod.UID)
	if err != nil {
		return err
	}
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	file, err := os.CreateTemp(s.dir, "."+string(record.Pod.UID)+".*")
	if err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return s.sync()
}

// Delete removes the Pod's Record; a missing one is fine.
func (s *Store) Delete(uid types.UID) error {
	path, err := s.path(uid)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove checkpoint: %w", err)
	}
	return nil
}

func (s *Store) sync() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("open checkpoint directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync checkpoint directory: %w", err)
	}
	return nil
}

// Load reads all Records. Those that cannot be read are removed and their
// errors returned together with the good ones.
func (s *Store) Load() ([]Record, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var records []Record
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			errs = append(errs, os.Remove(path))
			continue
		}
		record, err := read(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read checkpoint %s: %w", entry.Name(), err), os.Remove(path))
			continue
		}
		records = append(records, record)
	}
	return records, errors.Join(errs...)
}

func read(path string) (Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return Record{}, err
	}
	if record.Pod == nil || record.Pod.UID == "" {
		return Record{}, errors.New("it names no pod")
	}
	return record, nil
}
