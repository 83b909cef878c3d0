package recipe

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// debian adds the files of Debian packages to a layer. Their scripts are not
// run: what they would make, a recipe makes itself.
func debian(ctx context.Context, l *Layer, packages ...string) error {
	cache, err := download(ctx, packages)
	if err != nil {
		return err
	}
	for _, p := range packages {
		file, err := newest(cache, p)
		if err != nil {
			return err
		}
		out, err := output(ctx, "", "dpkg-deb", "--fsys-tarfile", file)
		if err != nil {
			return err
		}
		if err := l.Tar(bytes.NewReader(out)); err != nil {
			return fmt.Errorf("package %s: %w", p, err)
		}
	}
	return nil
}

// download fetches packages with apt, which verifies them, into a cache; what
// is there in its current version is left alone.
func download(ctx context.Context, packages []string) (cache string, err error) {
	if cache, err = os.UserCacheDir(); err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "skeg", "debian")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("download packages: %w", err)
	}
	args := append([]string{"download", "-o", "APT::Sandbox::User=root"}, packages...)
	if _, err := output(ctx, cache, "apt-get", args...); err != nil {
		return "", fmt.Errorf("download packages: %w", err)
	}
	return cache, nil
}

// newest is the file of a package that was fetched last.
func newest(cache, pkg string) (string, error) {
	found, err := filepath.Glob(filepath.Join(cache, pkg+"_*.deb"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("package %s: apt-get left no file: %w", pkg, err)
	}
	return slices.MaxFunc(found, func(a, b string) int { return modified(a) - modified(b) }), nil
}

func modified(file string) int {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return int(info.ModTime().Unix())
}

func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// libraryDirs are where the loader looks without a cache (ld.so(8)).
var libraryDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "lib", "usr/lib"}

// complete checks that every program of the layers finds its libraries, and
// names one that does not.
func complete(layers ...*Layer) error {
	all := map[string]*layerEntry{}
	for _, l := range layers {
		for name, e := range l.entries {
			all[name] = e
		}
	}
	for name, e := range all {
		if !bytes.HasPrefix(e.content, []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(e.content))
		if err != nil {
			continue // not for this machine, or no program
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		for _, lib := range needed {
			if !slices.ContainsFunc(libraryDirs, func(dir string) bool { return all[path.Join(dir, lib)] != nil }) {
				return fmt.Errorf("%s needs %s, which no package of the recipe has", name, lib)
			}
		}
	}
	return nil
}
