package node

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skeg-dev/skeg/internal/component"
)

// Machine is the host as the kubelet finds it. It is read once: what changes
// on a running machine (hot-plugged memory) needs a restart of the kubelet.
type Machine struct {
	capacity corev1.ResourceList
	info     corev1.NodeSystemInfo
}

// MemoryBytes of the machine.
func (m *Machine) MemoryBytes() int64 { return m.capacity.Memory().Value() }

// Capacity is a copy of all there is.
func (m *Machine) Capacity() corev1.ResourceList { return m.capacity.DeepCopy() }

// Info describes hardware and software.
func (m *Machine) Info() corev1.NodeSystemInfo { return m.info }

// ReadMachine looks at the host; dataDir is on the file system that Pods write.
func ReadMachine(dataDir string) (*Machine, error) {
	memory, swap, err := readMeminfo("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dataDir, &disk); err != nil {
		return nil, fmt.Errorf("size of file system of %s: %w", dataDir, err)
	}
	m := &Machine{capacity: corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI),
	}}
	if err := m.hugepages("/sys/kernel/mm/hugepages"); err != nil {
		return nil, err
	}
	bootID, err := BootID()
	if err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("read kernel version: %w", err)
	}
	m.info = corev1.NodeSystemInfo{
		MachineID:               firstLine("/etc/machine-id", "/var/lib/dbus/machine-id"),
		SystemUUID:              firstLine("/sys/class/dmi/id/product_uuid", "/etc/machine-id"),
		BootID:                  bootID,
		KernelVersion:           unix.ByteSliceToString(uts.Release[:]),
		OSImage:                 osImage("/etc/os-release"),
		ContainerRuntimeVersion: "skeg://" + strings.TrimPrefix(component.Version, "v"),
		KubeletVersion:          component.Version,
		OperatingSystem:         runtime.GOOS,
		Architecture:            runtime.GOARCH,
	}
	if swap > 0 {
		m.info.Swap = &corev1.NodeSwapStatus{Capacity: &swap}
	}
	return m, nil
}

// BootID changes with each boot of the kernel.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func readMeminfo(path string) (memory, swap int64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, fmt.Errorf("read memory size: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		parts := strings.Fields(lines.Text())
		if len(parts) < 2 || (parts[0] != "MemTotal:" && parts[0] != "SwapTotal:") {
			continue
		}
		kib, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("parse %s: %w", path, err)
		}
		if parts[0] == "MemTotal:" {
			memory = kib << 10
		} else {
			swap = kib << 10
		}
	}
	if memory == 0 {
		return 0, 0, fmt.Errorf("parse %s: it names no MemTotal", path)
	}
	return memory, swap, nil
}

// hugepages adds hugepages-2Mi and so on; machines without them have no
// directory.
func (m *Machine) hugepages(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list huge pages: %w", err)
	}
	for _, entry := range entries {
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(entry.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue // not a page size
		}
		count, err := strconv.ParseInt(firstLine(filepath.Join(dir, entry.Name(), "nr_hugepages")), 10, 64)
		if err != nil {
			return fmt.Errorf("count huge pages: %w", err)
		}
		size := resource.NewQuantity(kib<<10, resource.BinarySI)
		m.capacity[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size.String())] = *resource.NewQuantity(count*(kib<<10), resource.BinarySI)
	}
	return nil
}

// firstLine of the first file that can be read; "" if none can.
func firstLine(paths ...string) string {
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			line, _, _ := strings.Cut(string(data), "\n")
			if line = strings.TrimSpace(line); line != "" {
				return line
			}
		}
	}
	return ""
}

func osImage(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for _, line := range strings.Split(string(data), "\n") {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return "Linux"
}
