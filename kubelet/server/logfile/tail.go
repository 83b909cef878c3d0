//go:build linux

package logfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// tailBlock is how much is read at a time from the end.
const tailBlock = 16 << 10

// seekTail moves to where the last n lines begin; a negative n to the start.
func seekTail(file *os.File, n int64) error {
	if n < 0 {
		return nil
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("seek in log: %w", err)
	}
	if n == 0 {
		return nil
	}
	start, err := tailStart(file, size, n)
	if err != nil {
		return err
	}
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("seek in log: %w", err)
	}
	return nil
}

// tailStart finds the offset after the (n+1)th newline from the end; the one
// that ends the file does not count.
func tailStart(file io.ReaderAt, size, n int64) (int64, error) {
	block := make([]byte, tailBlock)
	end := size
	for first := true; end > 0; first = false {
		begin := max(end-tailBlock, 0)
		part := block[:end-begin]
		if _, err := file.ReadAt(part, begin); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		if first && part[len(part)-1] == '\n' {
			part = part[:len(part)-1]
		}
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if n--; n == 0 {
				return begin + int64(i) + 1, nil
			}
			part = part[:i]
		}
		end = begin
	}
	return 0, nil
}
