//go:build linux

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// setting is a kernel parameter below /proc/sys/net. optional ones are not
// there on kernels without the feature.
type setting struct {
	path, value string
	optional    bool
}

// hostSysctls sets what the node needs to route for Pods. Called in the
// node's namespace. (Meanings: Documentation/networking/ip-sysctl.rst.)
func hostSysctls(bridge string, ranges []netip.Prefix) error {
	settings := []setting{
		{path: "ipv4/ip_forward", value: "1"},
		// Two Pods of the node are reached through the same link; telling them
		// to talk directly would take them past translation. The kernel
		// takes the larger of "all" and the link's.
		{path: "ipv4/conf/all/send_redirects", value: "0"},
		{path: "ipv4/conf/" + bridge + "/send_redirects", value: "0"},
		// Host ports on 127.0.0.1 leave through the bridge; rules keep
		// packets from outside away from loopback addresses.
		{path: "ipv4/conf/" + bridge + "/route_localnet", value: "1"},
		// A Pod cannot speak with an address that is not of the Pod range.
		{path: "ipv4/conf/" + bridge + "/rp_filter", value: "1"},
	}
	for _, p := range ranges {
		if p.Addr().Is6() {
			settings = append(settings,
				setting{path: "ipv6/conf/all/forwarding", value: "1"},
				setting{path: "ipv6/conf/" + bridge + "/accept_dad", value: "0"})
			break
		}
	}
	return apply(settings)
}

// podSysctls are set in every Pod's namespace before its addresses.
func podSysctls() error {
	return apply([]setting{
		{path: "ipv6/conf/" + podLink + "/accept_ra", value: "0", optional: true},
		{path: "ipv6/conf/" + podLink + "/accept_dad", value: "0", optional: true},
		// Pods may listen on any port and ping without capabilities: the
		// namespace is theirs (containerd's defaults since 2.0).
		{path: "ipv4/ip_unprivileged_port_start", value: "0", optional: true},
		{path: "ipv4/ping_group_range", value: "0\t2147483647", optional: true},
	})
}

// apply writes the settings that differ; /proc/sys may be read-only where the
// values are right already.
func apply(settings []setting) error {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", s.path)
		now, err := os.ReadFile(path)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read sysctl: %w", err)
		}
		if strings.TrimSpace(string(now)) == s.value {
			continue
		}
		if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil {
			return fmt.Errorf("set sysctl to %s: %w", s.value, err)
		}
	}
	return nil
}
