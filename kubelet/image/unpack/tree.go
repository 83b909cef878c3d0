package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errRead is an error of the stream, not of the archive.
var errRead = errors.New("read layer")

// tree is the directory being written. Every path is resolved by the kernel
// with the directory as root (openat2, RESOLVE_IN_ROOT), so that symbolic links
// in the archive, absolute ones too, mean what they will mean in the container,
// and lead nowhere else.
type tree struct {
	root   int
	cached place // the last parent; entries of a directory follow one another
	dirs   []dirMeta
}

// dirMeta is set when all is written: writing into a directory changes its
// time, and its mode may forbid writing.
type dirMeta struct {
	name   string
	header *tar.Header
}

// place is an open directory.
type place struct {
	name string
	fd   int
}

func openTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open layer directory: %w", err)
	}
	return &tree{root: fd, cached: place{fd: -1}}, nil
}

func (t *tree) close() {
	t.forget()
	_ = unix.Close(t.root) // O_PATH: nothing to lose
}

func (t *tree) forget() {
	if t.cached.fd >= 0 {
		_ = unix.Close(t.cached.fd) // likewise
	}
	t.cached = place{fd: -1}
}

// open resolves a directory inside the tree.
func (t *tree) open(name string) (int, error) {
	for {
		fd, err := unix.Openat2(t.root, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// parent opens a directory, making those of its parents that the archive does
// not mention.
func (t *tree) parent(name string) (place, error) {
	if t.cached.fd >= 0 && t.cached.name == name {
		return t.cached, nil
	}
	fd, err := t.open(name)
	if errors.Is(err, unix.ENOENT) && name != "." {
		up, uerr := t.parent(path.Dir(name))
		if uerr != nil {
			return place{}, uerr
		}
		if err := unix.Mkdirat(up.fd, path.Base(name), 0o755); err != nil {
			return place{}, fmt.Errorf("create parent directory: %w", err)
		}
		fd, err = t.open(name)
	}
	if err != nil {
		return place{}, fmt.Errorf("open parent directory %q: %w", name, err)
	}
	t.forget()
	t.cached = place{name, fd}
	return t.cached, nil
}

// path is a name in an open directory, for calls that have no form with a
// descriptor. The last element is not followed by them.
func (p place) path(base string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", p.fd, base) }

// opaque hides what lower layers have in the directory
// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
func (p place) opaque() error {
	if err := unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", p.fd), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("mark directory opaque: %w", err)
	}
	return nil
}

// whiteout hides a name of lower layers. A name that this layer has itself
// stays; it hides the lower one anyway, a directory by being opaque.
func (p place) whiteout(base string) error {
	err := unix.Mknodat(p.fd, base, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return unix.Lsetxattr(p.path(base), "trusted.overlay.opaque", []byte("y"), 0)
}

// create makes the entry's file, directory, link or node, with its metadata.
func (t *tree) create(at place, base, name string, h *tar.Header, content io.Reader) error {
	opaque, err := t.clear(at, base, h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(at.fd, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if opaque {
			if err := unix.Lsetxattr(at.path(base), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
				return err
			}
		}
		t.dirs = append(t.dirs, dirMeta{name, h})
		return nil
	case tar.TypeReg:
		if err := writeFile(at, base, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, at.fd, base); err != nil {
			return err
		}
	case tar.TypeLink:
		return t.link(at, base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		if err := unix.Mknodat(at.fd, base, kind, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: type %q is none that a layer has", ErrBad, h.Typeflag)
	}
	return metadata(at, base, h)
}

// clear makes way for an entry that comes a second time. A whiteout that makes
// way for a directory makes it opaque.
func (t *tree) clear(at place, base string, h *tar.Header) (opaque bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(at.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && h.Typeflag == tar.TypeDir {
		return false, nil
	}
	opaque = st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
	if isDir {
		t.forget() // it may be the parent we keep open
		up, err := t.parent(path.Clean("./" + path.Dir(path.Clean(h.Name))))
		if err != nil {
			return false, err
		}
		return false, os.RemoveAll(up.path(base))
	}
	return opaque, unix.Unlinkat(at.fd, base, 0)
}

func writeFile(at place, base string, content io.Reader) error {
	fd, err := unix.Openat(at.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, content)
	cerr := f.Close()
	if err == nil {
		return cerr
	}
	var pathErr *fs.PathError // of the file; anything else is the stream's
	if errors.As(err, &pathErr) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.Join(err, cerr)
	}
	return errors.Join(fmt.Errorf("%w: %w", errRead, err), cerr)
}

// link makes a hard link to an entry that came before.
func (t *tree) link(at place, base string, h *tar.Header) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("%w: hard link to %q climbs out of the root directory", ErrBad, h.Linkname)
	}
	fd, err := t.open(path.Dir(target))
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	err = unix.Linkat(fd, path.Base(target), at.fd, base, 0)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	return nil
}

// finish sets the metadata of directories, the deepest first.
func (t *tree) finish() error {
	t.forget()
	for _, d := range slices.Backward(t.dirs) {
		fd, err := t.open(d.name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // a later entry took its place
		}
		if err == nil {
			err = metadata(place{d.name, fd}, ".", d.header)
			err = errors.Join(err, unix.Close(fd))
		}
		if err != nil {
			return bad(d.header, err)
		}
	}
	return nil
}

// xattrPrefix is how GNU tar and Go keep extended attributes in PAX records.
const xattrPrefix = "SCHILY.xattr."

// metadata sets owner, mode, attributes and times, in an order in which none
// undoes another: a change of owner clears set-user-ID and capabilities.
func metadata(at place, base string, h *tar.Header) error {
	if err := unix.Fchownat(at.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(at.fd, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, is := strings.CutPrefix(key, xattrPrefix)
		if !is || !keeps(name) {
			continue
		}
		err := unix.Lsetxattr(at.path(base), name, []byte(h.PAXRecords[key]), 0)
		// A symbolic link or node may not carry user attributes, and some file
		// systems carry none.
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set extended attribute %q: %w", name, err)
		}
	}
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	times := []unix.Timespec{timespec(access), timespec(h.ModTime)}
	if err := unix.UtimesNanoAt(at.fd, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// keeps reports whether an archive may set an attribute: overlayfs' own would
// let it redirect directories to anywhere in the lower layers.
func keeps(name string) bool {
	return !strings.HasPrefix(name, "trusted.overlay.") && !strings.HasPrefix(name, "user.overlay.")
}

func timespec(t time.Time) unix.Timespec {
	// The zero time of an archive without one is the epoch.
	if t.Before(time.Unix(0, 0)) {
		t = time.Unix(0, 0)
	}
	return unix.NsecToTimespec(t.UnixNano())
}
