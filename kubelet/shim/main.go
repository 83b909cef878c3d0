// Command kubelet-shim is the parent of one Pod's containers. The kubelet's
// shimclient starts one for each Pod, in a session of its own; it outlives the
// kubelet, writes the containers' logs and exit records, and serves the
// requests of package protocol on a unix socket in the directory that package
// record describes.
//
//	kubelet-shim serve DIR   runs until it is told to shut down
//	kubelet-shim pause       PID 1 of a Pod that shares its PID namespace
//	kubelet-shim init        a container's first steps, started by libcontainer
//
// Goroutines: the server's accept loop and one per connection; one waiting for
// each process, one for each of its output streams; the reaper.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	_ "github.com/opencontainers/runc/libcontainer/nsenter" // C code that enters namespaces before Go starts

	"github.com/skeg-dev/skeg/kubelet/shim/runc"
)

// init is the gate of libcontainer's re-execution: it must run before anything
// else of this program and keep the thread that nsenter prepared.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		runtime.GOMAXPROCS(1)
		runtime.LockOSThread()
		runc.Init()
	}
}

// A shim is there once for each Pod, so it is kept small: it holds little and
// is rarely busy.
const (
	heapGrowthPercent = 30
	memoryLimitBytes  = 24 << 20
	maxProcessors     = 2
)

func main() {
	debug.SetGCPercent(heapGrowthPercent)
	debug.SetMemoryLimit(memoryLimitBytes)
	runtime.GOMAXPROCS(maxProcessors)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(os.Args[1:]); err != nil {
		slog.Error("shim ends", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 1 && args[0] == "pause":
		return pause()
	}
	return fmt.Errorf("usage: kubelet-shim serve DIR; it is started by the kubelet")
}
