package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the newest kernel of its kind, with the drivers
// that virtual machines need.
const kernelPackage = "linux-image-cloud-amd64"

// ErrNoKernel says that apt knows no such package: this is not Debian.
var ErrNoKernel = errors.New("package " + kernelPackage + " is not known to apt")

// kernel is an unpacked kernel package.
type kernel struct {
	image   string
	modules map[string]string // name with underscores → file
}

// findKernel downloads (with apt, which verifies it) and unpacks the kernel
// once into the user's cache directory.
func findKernel(ctx context.Context) (*kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "skeg", "kernel")
	if images, _ := filepath.Glob(filepath.Join(dir, "root/boot/vmlinuz-*")); len(images) == 0 { // the pattern is right
		if err := download(ctx, dir); err != nil {
			return nil, fmt.Errorf("get a guest kernel: %w", err)
		}
	}
	images, err := filepath.Glob(filepath.Join(dir, "root/boot/vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return nil, errors.Join(errors.New("the kernel package has no image"), err)
	}
	k := &kernel{image: images[0], modules: map[string]string{}}
	err = filepath.WalkDir(filepath.Join(dir, "root/lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			k.modules[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return k, err
}

func download(ctx context.Context, dir string) error {
	work := dir + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(work, "root"), 0o755); err != nil {
		return err
	}
	depends, err := output(ctx, work, "apt-cache", "depends", kernelPackage)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	_, rest, ok := strings.Cut(depends, "Depends: ")
	name, _, _ := strings.Cut(rest, "\n")
	if !ok || name == "" {
		return ErrNoKernel
	}
	if _, err := output(ctx, work, "apt-get", "download", "-o", "APT::Sandbox::User=root", strings.TrimSpace(name)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(files) != 1 {
		return errors.Join(fmt.Errorf("found %d package files", len(files)), err)
	}
	if _, err := output(ctx, work, "dpkg-deb", "-x", files[0], "root"); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(work, dir)
}

func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, errOut.String())
	}
	return string(out), nil
}

// order returns the files of the modules and what they depend on, dependencies
// first. A name that is no module is built into the kernel, or an error later
// in the guest.
func (k *kernel) order(names []string) ([]string, error) {
	var files []string
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		path, ok := k.modules[name]
		if !ok || done[name] {
			return nil
		}
		done[name] = true
		depends, err := dependencies(path)
		if err != nil {
			return fmt.Errorf("read module %s: %w", name, err)
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		files = append(files, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// dependencies reads "depends=a,b" from a module's .modinfo section.
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(data), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
