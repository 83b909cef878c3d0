package main

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The real-time signals as the C library numbers them (signal(7): glibc and
// musl keep the first ones for themselves).
const (
	sigRTMin = 34
	sigRTMax = 64
)

// signalNumber understands what an image's STOPSIGNAL and a Pod's stopSignal
// can be: "SIGTERM", "TERM", "15", "SIGRTMIN+3", "RTMAX-1".
func signalNumber(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("parse signal: %d is not a signal number", n)
		}
		return syscall.Signal(n), nil
	}
	upper := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for prefix, base := range map[string]int{"RTMIN": sigRTMin, "RTMAX": sigRTMax} {
		rest, is := strings.CutPrefix(upper, prefix)
		if !is {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				return 0, fmt.Errorf("parse signal %q: %w", name, err)
			}
		}
		if n := base + offset; n >= sigRTMin && n <= sigRTMax {
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("parse signal: %q is outside the real-time signals", name)
	}
	if n := unix.SignalNum("SIG" + upper); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("parse signal: %q is not a signal", name)
}
