package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// host is what a cluster could leave behind on a machine, as sorted lines.
type host map[string][]string

func snapshot() (host, error) {
	h := host{}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if !others(l.Attrs().Name) {
			h["links"] = append(h["links"], l.Attrs().Name)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil && !others(link.Attrs().Name) {
			h["routes"] = append(h["routes"], r.String())
		}
	}
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if others(t.Name) {
			continue
		}
		h["nftables"] = append(h["nftables"], fmt.Sprintf("%d %s", t.Family, t.Name))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if point := strings.Fields(line)[4]; !othersMount(point) {
			h["mounts"] = append(h["mounts"], point)
		}
	}
	for what, pattern := range map[string]string{
		"network namespaces": "/run/netns/" + slot.name + "-*",
		"cgroups":            "/sys/fs/cgroup/*/" + slot.name,
		"unified cgroups":    "/sys/fs/cgroup/" + slot.name,
		"state":              stateDir,
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		h[what] = found
	}
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter"} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", sysctl))
		if err != nil {
			return nil, err
		}
		h["sysctls"] = append(h["sysctls"], sysctl+" = "+strings.TrimSpace(string(value)))
	}
	processes, err := ourProcesses()
	if err != nil {
		return nil, err
	}
	h["processes"] = processes
	for _, lines := range h {
		slices.Sort(lines)
	}
	return h, nil
}

// others reports whether the name is that of another cluster made by `ctl up`
// beside ours (<name>-host, <name>-up), whose coming and going is not ours.
func others(name string) bool {
	for _, suffix := range []string{"-host", "-up"} {
		if owner, ok := strings.CutSuffix(name, suffix); ok && owner != slot.name {
			return true
		}
	}
	return false
}

// othersMount does the same for mounts: in another cluster's directory, or a
// network namespace that is not ours.
func othersMount(point string) bool {
	if strings.HasPrefix(point, "/run/netns/") {
		return !strings.HasPrefix(point, "/run/netns/"+slot.name)
	}
	return strings.Contains(point, "/nodes/node-") && !strings.HasPrefix(point, stateDir)
}

// ourProcesses lists the programs from bin/ that run for our cluster.
func ourProcesses() ([]string, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(exe, filepath.Join(root, "bin")+"/") {
			continue
		}
		if args, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline")); err == nil && strings.Contains(string(args), stateDir) {
			found = append(found, exe)
		}
	}
	return found, nil
}

// diff says what after has more or less, "" if nothing.
func (h host) diff(after host) string {
	var out strings.Builder
	for what, lines := range after {
		for _, line := range minus(lines, h[what]) {
			fmt.Fprintf(&out, "  %s: new: %s\n", what, line)
		}
	}
	for what, lines := range h {
		for _, line := range minus(lines, after[what]) {
			fmt.Fprintf(&out, "  %s: gone: %s\n", what, line)
		}
	}
	return out.String()
}

// minus returns the elements of a that b does not have, counting duplicates.
func minus(a, b []string) []string {
	left := slices.Clone(b)
	var out []string
	for _, x := range a {
		if i := slices.Index(left, x); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			out = append(out, x)
		}
	}
	return out
}
