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
		h["links"] = append(h["links"], l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		h["routes"] = append(h["routes"], r.String())
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
		h["nftables"] = append(h["nftables"], fmt.Sprintf("%d %s", t.Family, t.Name))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		h["mounts"] = append(h["mounts"], strings.Fields(line)[4])
	}
	for what, pattern := range map[string]string{
		"network namespaces": "/run/netns/*",
		"cgroups":            "/sys/fs/cgroup/*/skeg*",
		"unified cgroups":    "/sys/fs/cgroup/skeg*",
		"state":              filepath.Join(os.TempDir(), "skeg-e2e"),
		"state of `ctl up`":  "/var/lib/skeg",
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

// ourProcesses lists the programs that run from bin/.
func ourProcesses() ([]string, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(exe, filepath.Join(root, "bin")+"/") {
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
