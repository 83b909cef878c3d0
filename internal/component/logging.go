package component

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

// LogOptions are the logging flags every binary has, as upstream spells them.
type LogOptions struct {
	// Format is "text" or "json".
	Format string
	// Verbosity is klog's -v: 0 shows Info and above, 4 Debug as well (slog's
	// Debug is level -4), more whatever client-go says at that V level.
	Verbosity int
	// VModule is klog's per-file verbosity, for client-go's messages.
	VModule string
}

// AddFlags registers the flags.
func (o *LogOptions) AddFlags(fs *pflag.FlagSet) {
	InFlagGroup(fs, "Logs", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.Format, "logging-format", o.Format, `Log format: "text" or "json"`)
		fs.IntVarP(&o.Verbosity, "v", "v", o.Verbosity, "Log verbosity; 4 and more is for debugging")
		fs.StringVar(&o.VModule, "vmodule", o.VModule, "Comma-separated pattern=N settings for file-filtered verbosity of client libraries (text format only)")
	})
}

// Validate returns every fault, naming flags.
func (o *LogOptions) Validate() []error {
	var errs []error
	if o.Format != "text" && o.Format != "json" {
		errs = append(errs, fmt.Errorf(`--logging-format: %q is neither "text" nor "json"`, o.Format))
	}
	if o.Verbosity < 0 {
		errs = append(errs, fmt.Errorf("--v: %d is negative", o.Verbosity))
	}
	if o.VModule != "" && o.Format == "json" {
		errs = append(errs, fmt.Errorf("--vmodule: works only with --logging-format=text"))
	}
	return errs
}

// NewLogger makes the process's logger writing to w, makes it slog's default,
// and sends what client libraries log through klog and logr the same way.
// Call it once, before anything logs.
func NewLogger(o LogOptions, w io.Writer) (*slog.Logger, error) {
	level := slog.Level(-o.Verbosity)
	settings := &slog.HandlerOptions{Level: level, ReplaceAttr: nameLevel}
	var handler slog.Handler = slog.NewTextHandler(w, settings)
	if o.Format == "json" {
		handler = slog.NewJSONHandler(w, settings)
	}
	logger := slog.New(handler)
	slog.SetDefault(logger)
	if err := bridgeKlog(o, handler); err != nil {
		return nil, err
	}
	return logger, nil
}

func bridgeKlog(o LogOptions, handler slog.Handler) error {
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	if err := fs.Set("v", strconv.Itoa(o.Verbosity)); err != nil {
		return fmt.Errorf("set klog verbosity: %w", err)
	}
	if err := fs.Set("vmodule", o.VModule); err != nil {
		return fmt.Errorf("--vmodule: %w", err)
	}
	klog.SetLoggerWithOptions(logr.FromSlogHandler(handler), klog.ContextualLogger(true))
	return nil
}

// nameLevel prints client-go's V levels as "DEBUG" rather than "INFO-2".
func nameLevel(_ []string, a slog.Attr) slog.Attr {
	if a.Key != slog.LevelKey {
		return a
	}
	if level, ok := a.Value.Any().(slog.Level); ok && level < slog.LevelInfo {
		return slog.String(slog.LevelKey, slog.LevelDebug.String())
	}
	return a
}

// ContextLogger returns ctx carrying logger for libraries that look for a logr
// logger in it.
func ContextLogger(ctx context.Context, logger *slog.Logger) context.Context {
	return logr.NewContext(ctx, logr.FromSlogHandler(logger.Handler()))
}
