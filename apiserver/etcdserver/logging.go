package etcdserver

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZapLogger passes warnings and errors of etcd, which logs through zap, on.
func newZapLogger(logger *slog.Logger) *zap.Logger {
	return zap.New(&core{logger: logger.With("part", "etcd")})
}

// core is a zapcore.Core that writes to slog.
type core struct {
	logger *slog.Logger
}

// Enabled reports whether a level is passed on.
func (c *core) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With adds fields to all entries.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{logger: c.logger.With(attributes(fields)...)}
}

// Check adds this core to entries that are passed on.
func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write logs one entry.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if entry.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.logger.Log(context.Background(), level, entry.Message, attributes(fields)...) //nolint:sloglint // etcd's message; zap has no context
	return nil
}

// Sync has nothing to flush.
func (c *core) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	all := make([]any, 0, 2*len(encoder.Fields))
	for key, value := range encoder.Fields {
		all = append(all, key, value)
	}
	return all
}
