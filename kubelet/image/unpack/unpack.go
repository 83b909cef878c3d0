// Package unpack writes a layer's tar stream into a directory, as a lower
// directory of overlayfs: owners, modes, times, links, device nodes and
// extended attributes as the archive has them, whiteouts as overlayfs wants
// them. The archive is hostile until shown otherwise: nothing is written
// outside the directory, and there are limits. Package image calls it. Starts
// no goroutines of its own.
package unpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrBad marks an archive that cannot be unpacked: the text names the entry and
// what is wrong with it.
var ErrBad = errors.New("bad layer archive")

// Limits bound what a layer may become; all fields are required.
type Limits struct {
	Bytes   int64 // contents of all files
	Entries int64
}

// Result counts what was written.
type Result struct {
	Bytes   int64 // contents of regular files
	Entries int64
}

// maxName bounds an entry's name: PATH_MAX.
const maxName = 4096

// Whiteouts of the OCI image specification ("Layer Filesystem Changeset").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Tar unpacks an uncompressed archive into dir, which exists and is empty. It
// reads the stream to its end, beyond the archive's own, so that a digest of
// the stream is complete.
func Tar(ctx context.Context, r io.Reader, dir string, limits Limits) (Result, error) {
	t, err := openTree(dir)
	if err != nil {
		return Result{}, err
	}
	defer t.close()
	var done Result
	archive := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return done, readError(err)
		}
		done.Entries++
		if done.Entries > limits.Entries {
			return done, fmt.Errorf("%w: more than %d entries", ErrBad, limits.Entries)
		}
		if h.Typeflag == tar.TypeReg {
			done.Bytes += h.Size
		}
		if done.Bytes > limits.Bytes {
			return done, fmt.Errorf("%w: entry %q makes it larger than %d bytes", ErrBad, h.Name, limits.Bytes)
		}
		if err := t.entry(h, archive); err != nil {
			return done, err
		}
	}
	if err := t.finish(); err != nil {
		return done, err
	}
	// Archivers pad; what comes after the end must not be a way to fill memory
	// or time, so it counts against the same limit.
	n, err := io.Copy(io.Discard, io.LimitReader(r, limits.Bytes-done.Bytes+1))
	if err == nil && n > limits.Bytes-done.Bytes {
		err = fmt.Errorf("%w: endless padding", ErrBad)
	}
	return done, err
}

// readError tells an archive that is broken from a stream that is.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return fmt.Errorf("read layer: %w", err)
}

// entry writes one entry of the archive.
func (t *tree) entry(h *tar.Header, content io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag == tar.TypeDir {
			t.dirs = append(t.dirs, dirMeta{".", h})
		}
		return nil
	}
	parent, base := path.Split(name)
	at, err := t.parent(path.Clean("./" + parent))
	if err != nil {
		return bad(h, err)
	}
	switch {
	case base == whiteoutOpaque:
		err = at.opaque()
	case strings.HasPrefix(base, whiteoutPrefix):
		hidden := strings.TrimPrefix(base, whiteoutPrefix)
		if hidden == "" || hidden == "." || hidden == ".." {
			return fmt.Errorf("%w: entry %q is not a whiteout", ErrBad, h.Name)
		}
		err = at.whiteout(hidden)
	default:
		err = t.create(at, base, name, h, content)
	}
	if err != nil {
		return bad(h, err)
	}
	return nil
}

func bad(h *tar.Header, err error) error {
	if errors.Is(err, ErrBad) || errors.Is(err, errRead) {
		return fmt.Errorf("entry %q: %w", h.Name, err)
	}
	return fmt.Errorf("%w: entry %q: %w", ErrBad, h.Name, err)
}

// clean makes a name relative to the root, and refuses one that climbs out.
func clean(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("%w: entry %.40q...: its name has %d bytes", ErrBad, name, len(name))
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: entry %q: a zero byte in its name", ErrBad, name)
	}
	rel := path.Clean(strings.TrimLeft(name, "/"))
	if rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%w: entry %q climbs out of the root directory", ErrBad, name)
	}
	return rel, nil
}

// Decompress finds out by its first bytes how a layer is compressed (gzip,
// zstd, not at all) and undoes it. Close the reader.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// The window bounds memory: 128 MiB is the largest the format's
		// recommended decoders accept (RFC 8878 wants at least 8 MiB).
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}
