package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// User is a resolved user of a container.
type User struct {
	UID, GID int64
	Groups   []int64
}

// maxUserFile bounds what of passwd and group is read.
const maxUserFile = 1 << 20

// ResolveUser finds a user as an image or Pod names it ("", "1000",
// "1000:1000", "www-data:www-data") in the root directory's /etc/passwd and
// /etc/group. A number needs no entry; its group is then 0.
func (s *Store) ResolveUser(rootfs, name string) (User, error) { return ResolveUser(rootfs, name) }

// ResolveUser is the same without a store.
func ResolveUser(rootfs, name string) (User, error) {
	passwd, err := openIn(rootfs, "etc/passwd")
	if err != nil {
		return User{}, fmt.Errorf("resolve user %q: %w", name, err)
	}
	if passwd != nil {
		defer passwd.Close()
	}
	group, err := openIn(rootfs, "etc/group")
	if err != nil {
		return User{}, fmt.Errorf("resolve user %q: %w", name, err)
	}
	if group != nil {
		defer group.Close()
	}
	found, err := user.GetExecUser(name, &user.ExecUser{}, reader(passwd), reader(group))
	if err != nil {
		return User{}, fmt.Errorf("resolve user %q: %w", name, err)
	}
	u := User{UID: int64(found.Uid), GID: int64(found.Gid)}
	for _, g := range found.Sgids {
		u.Groups = append(u.Groups, int64(g))
	}
	return u, nil
}

func reader(f *os.File) io.Reader {
	if f == nil {
		return strings.NewReader("")
	}
	return io.LimitReader(f, maxUserFile)
}

// openIn opens a regular file with the directory as root, so that links in an
// image lead nowhere else; nil if there is none.
func openIn(rootfs, name string) (*os.File, error) {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root directory: %w", err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is not a file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
