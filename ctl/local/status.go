package local

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// proxyHealthPort is the proxy's --healthz-bind-address port, upstream's default.
const proxyHealthPort = 10256

func proxyHealthy(node netip.Addr) error {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + net.JoinHostPort(node.String(), strconv.Itoa(proxyHealthPort)) + "/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the message only
		return fmt.Errorf("healthz: %s: %s", resp.Status, body)
	}
	return nil
}

// ProcessStatus is one component as `ctl status` shows it.
type ProcessStatus struct {
	Name    string
	PID     int
	Running bool
	// MemoryBytes is the proportional set size; 0 when unknown.
	MemoryBytes int64
	Log         string
}

// Processes returns the state of every component that `up` started.
func Processes(l Layout) ([]ProcessStatus, error) {
	names, err := processes(l)
	if err != nil {
		return nil, err
	}
	var all []ProcessStatus
	for i := len(names) - 1; i >= 0; i-- { // the control plane first
		p := ProcessStatus{Name: names[i], Log: l.Log(names[i])}
		p.PID, p.Running = findProcess(l, names[i])
		if p.Running {
			p.MemoryBytes = proportionalMemory(p.PID)
		}
		all = append(all, p)
	}
	return all, nil
}

// proportionalMemory reads Pss (in kB) of /proc/<pid>/smaps_rollup.
func proportionalMemory(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
