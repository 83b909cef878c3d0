package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/version"
)

// Exit codes of every binary.
const (
	ExitOK    = 0
	ExitError = 1
	ExitUsage = 2
)

// Options are a binary's settings. AddFlags must use the current values as
// defaults (fs.StringVar(&o.X, "x", o.X, ...)). Validate returns all faults,
// each naming its flag.
type Options interface {
	AddFlags(fs *pflag.FlagSet)
	Validate() []error
}

// FileOptions are Options that can also come from a file. After the flags are
// parsed, ConfigFile names the file ("" for none) and LoadConfig fills the
// settings from it; flags given on the command line win over the file.
type FileOptions interface {
	Options
	ConfigFile() string
	LoadConfig(path string) error
}

// Program describes a binary for Main.
type Program struct {
	// Name is that of the binary ("scheduler"); Short one line of help.
	Name  string
	Short string
	// Options is filled from flags and file before Run; required.
	Options Options
	// Run does the work until ctx ends; required.
	Run func(ctx context.Context, logger *slog.Logger) error
	// Alive, when not nil, is asked before each ping of systemd's watchdog.
	Alive func() error
}

// Main parses the command line, runs p until SIGINT or SIGTERM or until it
// ends by itself, and returns the exit code. The whole main function of a
// binary is os.Exit(component.Main(program)).
func Main(p Program) int {
	return p.main(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
}

func (p Program) main(parent context.Context, args []string, stdout, stderr io.Writer) int {
	logs, done, err := p.parse(args, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nRun '%s --help' for all flags.\n", p.Name, err, p.Name)
		return ExitUsage
	}
	if done {
		return ExitOK
	}
	logger, err := NewLogger(logs, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return ExitUsage
	}
	limitMemory("/")
	ctx, cancel := signals(ContextLogger(parent, logger))
	defer cancel()
	quiet := context.AfterFunc(ctx, func() { notify("STOPPING=1") })
	defer quiet() // who ends by itself is gone before systemd could be told
	if interval := watchdogInterval(); interval > 0 {
		go watchdog(ctx, interval, p.Alive)
	}
	logger.Info("starting", "component", p.Name, "version", Version, "build", Build)
	if err := p.Run(ctx, logger); err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		logger.Error("stopped", "component", p.Name, "err", err)
		return ExitError
	}
	logger.Info("stopped", "component", p.Name)
	return ExitOK
}

// parse fills p.Options. done means that --help or --version was answered.
func (p Program) parse(args []string, stdout io.Writer) (logs LogOptions, done bool, err error) {
	logs = LogOptions{Format: "text"}
	given := common{logs: &logs}
	fs := p.flagSet(&given)
	if err := fs.Parse(args); err != nil {
		return logs, false, err
	}
	switch {
	case given.help:
		return logs, true, writeHelp(stdout, p, fs)
	case given.version != "":
		return logs, true, writeVersion(stdout, p.Name, given.version)
	case fs.NArg() > 0:
		return logs, false, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := p.loadFile(args); err != nil {
		return logs, false, err
	}
	return logs, false, errors.Join(append(logs.Validate(), p.Options.Validate()...)...)
}

// loadFile reads the configuration file if there is one, then parses the
// command line again into the same options, so that flags win.
func (p Program) loadFile(args []string) error {
	options, ok := p.Options.(FileOptions)
	if !ok || options.ConfigFile() == "" {
		return nil
	}
	path := options.ConfigFile()
	if err := options.LoadConfig(path); err != nil {
		return fmt.Errorf("--config: load %s: %w", path, err)
	}
	return p.flagSet(&common{logs: &LogOptions{}}).Parse(args)
}

// Version is the API version spoken, in upstream's form; tools that compare
// versions read this. The build metadata after + says whose software it is.
const (
	Version      = "v1.37.2+skeg"
	versionMajor = "1"
	versionMinor = "37"
)

// Build identifies the source of this binary; set with
// -ldflags "-X github.com/skeg-dev/skeg/internal/component.Build=...".
var Build = "unknown"

// VersionInfo is what /version, --version and kubernetes_build_info show.
func VersionInfo() version.Info {
	return version.Info{
		Major:        versionMajor,
		Minor:        versionMinor,
		GitVersion:   Version,
		GitCommit:    Build,
		GitTreeState: "clean",
		BuildDate:    "1970-01-01T00:00:00Z", // builds are reproducible: no clock goes in
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH),
	}
}

// UserAgent is how a component names itself to the API server, e.g.
// "skeg-scheduler/v1.37.2+skeg (linux/amd64)".
func UserAgent(name string) string {
	return fmt.Sprintf("skeg-%s/%s (%s/%s)", name, Version, runtime.GOOS, runtime.GOARCH)
}
