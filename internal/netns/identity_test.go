//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// identity names a namespace by device and inode, as namespaces(7) says to.
func identity(info os.FileInfo) (string, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("no inode for file")
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}
