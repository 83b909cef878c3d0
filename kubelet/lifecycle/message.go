package lifecycle

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
)

// readTail returns the last limit bytes of a file, "" if it cannot be read.
// The file was writable by a container: links are not followed and devices or
// pipes put in its place are not read.
func readTail(path string, limit int64) string {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	if info.Size() > limit {
		if _, err := file.Seek(-limit, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return string(data)
}

// logTail returns the last lines of a CRI log without their prefixes
// ("<time> stdout F ").
func logTail(path string) string {
	// Prefixes are about 45 bytes a line and come on top of the content.
	lines := strings.Split(strings.TrimSuffix(readTail(path, 4*fallbackBytes+fallbackLines*64), "\n"), "\n")
	if len(lines) > fallbackLines {
		lines = lines[len(lines)-fallbackLines:]
	}
	var out strings.Builder
	for _, line := range lines {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) < 4 {
			continue // the first line of a tail may be cut
		}
		out.WriteString(parts[3])
		if parts[2] == "F" {
			out.WriteByte('\n')
		}
	}
	text := out.String()
	if len(text) > fallbackBytes {
		text = text[len(text)-fallbackBytes:]
	}
	return text
}
