//go:build linux

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Content of a volume, as containers see it and as upstream's writer lays it
// out; the rename of ..data makes all files change at once:
//
//	..2026_11_23_10_00_00.123456789/ca.crt     the files
//	..data -> ..2026_11_23_10_00_00.123456789
//	ca.crt -> ..data/ca.crt
const (
	dataLink = "..data"
	nextLink = "..data_tmp"
)

// maxPathBytes bounds the path of one file, below Linux's limit of 4096.
const maxPathBytes = 4095

// write makes the volume's content equal to files. Nothing is touched when it
// is already.
func write(r Request, files content) error {
	if err := checkPaths(files); err != nil {
		return err
	}
	old, err := os.Readlink(filepath.Join(r.Dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read link to content: %w", err)
	}
	if old != "" && same(filepath.Join(r.Dir, old), files) {
		// A crash may have come between the rename and the links.
		return link(r.Dir, old, files)
	}
	stamp := time.Now().UTC().Format("..2006_01_02_15_04_05.")
	next, err := os.MkdirTemp(r.Dir, stamp)
	if err != nil {
		return fmt.Errorf("make content directory: %w", err)
	}
	if err := fill(next, r, files); err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	if err := swap(r.Dir, filepath.Base(next)); err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	return link(r.Dir, filepath.Base(next), files)
}

// fill writes all files into a new directory, then gives them their owners.
func fill(dir string, r Request, files content) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("set mode of content directory: %w", err)
	}
	for name, f := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("make content directory: %w", err)
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return fmt.Errorf("write content: %w", err)
		}
		if err := os.Chmod(full, f.mode.Perm()); err != nil { // past the umask
			return fmt.Errorf("set mode of content: %w", err)
		}
		if f.owner != nil {
			if err := os.Lchown(full, int(*f.owner), -1); err != nil {
				return fmt.Errorf("set owner of content: %w", err)
			}
		}
	}
	return ownContent(dir, r)
}

// ownContent gives files to the Pod's group for reading, with the modes that
// were asked for otherwise.
func ownContent(dir string, r Request) error {
	group := fsGroup(r.Pod)
	if group == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("give content to group %d: %w", *group, err)
		}
		if err := os.Lchown(name, -1, int(*group)); err != nil {
			return fmt.Errorf("give content to group %d: %w", *group, err)
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("give content to group %d: %w", *group, err)
		}
		mode := info.Mode().Perm() | 0o440
		if entry.IsDir() {
			mode |= 0o110 | fs.ModeSetgid
		}
		return os.Chmod(name, mode)
	})
}

// swap points ..data to the new directory in one step.
func swap(dir, next string) error {
	temporary := filepath.Join(dir, nextLink)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove left-over link: %w", err)
	}
	if err := os.Symlink(next, temporary); err != nil {
		return fmt.Errorf("link new content: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("switch to new content: %w", err)
	}
	return nil
}

// link makes the links users see and removes those and the content
// directories that are no longer in use.
func link(dir, current string, files content) error {
	want := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		want[first] = true
	}
	for first := range want {
		err := os.Symlink(filepath.Join(dataLink, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link content: %w", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list content: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); name != dataLink && name != current && !want[name] {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove old content: %w", err)
			}
		}
	}
	return nil
}

// same reports whether dir holds exactly these files.
func same(dir string, files content) bool {
	found := 0
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		f, ok := files[filepath.ToSlash(rel)]
		if !ok {
			return fs.ErrInvalid
		}
		data, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(data, f.data) {
			return errors.Join(err, fs.ErrInvalid)
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

// checkPaths refuses what could leave the volume or hide its links.
func checkPaths(files content) error {
	for name := range files {
		parts := strings.Split(name, "/")
		switch {
		case name == "" || path.IsAbs(name) || slices.Contains(parts, "..") || slices.Contains(parts, ""):
			return fmt.Errorf("invalid path %q in volume", name)
		case strings.HasPrefix(parts[0], ".."):
			return fmt.Errorf("invalid path %q in volume: must not start with \"..\"", name)
		case len(name) > maxPathBytes:
			return fmt.Errorf("path in volume is longer than %d bytes", maxPathBytes)
		}
	}
	return nil
}
