package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// demo is the demo program alone.
func demo(ctx context.Context) ([]*Layer, error) {
	program, err := goProgram(ctx, "github.com/skeg-dev/skeg/hack/demo")
	if err != nil {
		return nil, err
	}
	l := NewLayer()
	l.Add("demo", 0o755, program)
	accounts(l)
	return []*Layer{l}, nil
}

// goProgram builds a static program, the same bytes for the same sources.
func goProgram(ctx context.Context, pkg string) (program []byte, err error) {
	dir, err := os.MkdirTemp("", "skeg-image-")
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", pkg, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "program")
	if _, err := output(ctx, "", "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64",
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, pkg); err != nil {
		return nil, fmt.Errorf("build %s: %w", pkg, err)
	}
	return os.ReadFile(out)
}

// accounts are the users that Debian's packages expect.
func accounts(l *Layer) {
	l.Add("etc/passwd", 0o644, []byte(`root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
redis:x:999:999:redis:/data:/usr/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`))
	l.Add("etc/group", 0o644, []byte("root:x:0:\ntty:x:5:\nwww-data:x:33:\nredis:x:999:\nnonroot:x:65532:\nnogroup:x:65534:\n"))
	l.Add("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n"))
	l.Dir("tmp", 0o1777, 0)
	l.Dir("root", 0o700, 0)
}

// applets of busybox that get a link in /bin.
var applets = []string{
	"[", "ash", "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "cmp", "cp", "cut", "date", "dd", "df", "diff",
	"dirname", "du", "echo", "env", "expr", "false", "find", "free", "grep", "gunzip", "gzip", "head", "hostname", "id", "ip",
	"kill", "killall", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "more", "mount", "mv", "nc", "netstat",
	"nslookup", "od", "pgrep", "pidof", "ping", "printenv", "printf", "ps", "pwd", "readlink", "realpath", "rm", "rmdir", "sed",
	"seq", "sh", "sha256sum", "sleep", "sort", "stat", "stty", "sync", "tail", "tar", "tee", "telnet", "test", "time", "timeout",
	"top", "touch", "tr", "traceroute", "true", "tty", "umount", "uname", "uniq", "uptime", "vi", "wc", "wget", "which", "whoami",
	"xargs", "yes",
}

// busyboxLayer is busybox, statically linked, with its applets.
func busyboxLayer(ctx context.Context) (*Layer, error) {
	from := NewLayer()
	if err := debian(ctx, from, "busybox-static"); err != nil {
		return nil, err
	}
	program := from.entries["bin/busybox"]
	if program == nil {
		program = from.entries["usr/bin/busybox"] // since Debian 13
	}
	if program == nil {
		return nil, errors.New("the package busybox-static has no /bin/busybox")
	}
	l := NewLayer()
	l.Add("bin/busybox", 0o755, program.content)
	for _, a := range applets {
		l.Link("bin/"+a, "busybox")
	}
	accounts(l)
	return l, nil
}

func busybox(ctx context.Context) ([]*Layer, error) {
	l, err := busyboxLayer(ctx)
	return []*Layer{l}, err
}

// base is what images of Debian's programs share: busybox as a shell, and the
// C library.
func base(ctx context.Context) (*Layer, error) {
	l, err := busyboxLayer(ctx)
	if err != nil {
		return nil, err
	}
	return l, debian(ctx, l, "libc6", "libgcc-s1", "libcrypt1", "libssl3", "zlib1g")
}
