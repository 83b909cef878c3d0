package vm

import (
	"bytes"
	"fmt"
	"os"
	"path"
)

// archive is a cpio archive in the "newc" format that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst). The zero value
// is empty and ready.
type archive struct {
	out  bytes.Buffer
	node int
	dirs map[string]bool
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func (a *archive) dir(name string) {
	if a.dirs == nil {
		a.dirs = map[string]bool{}
	}
	if name == "." || a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, modeDir|0o755, nil)
}

// file adds a file of the host with its permissions.
func (a *archive) file(name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	a.bytes(name, data, uint32(info.Mode().Perm()))
	return nil
}

func (a *archive) bytes(name string, data []byte, mode uint32) {
	a.dir(path.Dir(name))
	a.entry(name, modeFile|mode, data)
}

// entry writes one header, name and content, each padded to four bytes.
func (a *archive) entry(name string, mode uint32, data []byte) {
	a.node++
	fmt.Fprintf(&a.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.node, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.out.WriteString(name + "\x00")
	a.pad()
	a.out.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

func (a *archive) done() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.out.Bytes()
}
