package component

import (
	"context"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memoryShare is how much of the cgroup's limit the Go heap may plan with; the
// rest is for stacks of C, page tables and the kernel's own accounting.
const memoryShare = 0.9

// signals returns a context that ends with the first SIGINT or SIGTERM; the
// second one exits the process at once with code 1.
func signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-received:
			slog.Info("stopping on signal", "signal", s.String())
			cancel()
		case <-ctx.Done():
			signal.Stop(received)
			return
		}
		<-received
		os.Exit(1)
	}()
	return ctx, cancel
}

// limitMemory sets Go's soft memory limit from the cgroup's, unless GOMEMLIMIT
// is set already. root is "/" outside tests.
func limitMemory(root string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := cgroupMemoryLimit(root); limit > 0 {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}

// cgroupMemoryLimit returns the lowest memory limit in bytes on the way from
// this process's cgroup to the root, or 0 when there is none.
func cgroupMemoryLimit(root string) int64 {
	self, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	lowest := int64(0)
	for line := range strings.Lines(string(self)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, file := "", ""
		switch {
		case fields[0] == "0" && fields[1] == "":
			mount, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+fields[1]+",", ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := fields[2]; ; dir = filepath.Dir(dir) {
			if limit := readLimit(filepath.Join(root, mount, dir, file)); limit > 0 && (lowest == 0 || limit < lowest) {
				lowest = limit
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return lowest
}

// readLimit returns 0 for "max", for v1's way of saying unlimited (a number
// close to 2^63) and for files that are not there.
func readLimit(path string) int64 {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	if err != nil || limit > math.MaxInt64/2 {
		return 0
	}
	return limit
}

// notify tells systemd about a state change (sd_notify(3)); without
// NOTIFY_SOCKET it does nothing. A lost message is logged: systemd's timeout
// then says the rest.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		slog.Warn("cannot notify systemd", "state", state, "err", err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		slog.Warn("cannot notify systemd", "state", state, "err", err)
	}
}

// watchdogInterval is half of what systemd asks for in WATCHDOG_USEC, or 0.
func watchdogInterval() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// watchdog pings systemd while alive (may be nil) returns nil; it ends with ctx.
func watchdog(ctx context.Context, interval time.Duration, alive func() error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if alive == nil {
			notify("WATCHDOG=1")
		} else if err := alive(); err != nil {
			slog.Error("not alive, withholding watchdog ping", "err", err)
		} else {
			notify("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
