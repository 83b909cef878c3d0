//go:build linux

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// record is what the node remembers of an attached Pod. The records are the
// leases: an address is taken while a record has it.
type record struct {
	UID       types.UID    `json:"uid"`
	Pod       string       `json:"pod"` // namespace/name, for people
	IPs       []netip.Addr `json:"ips"`
	HostPorts []hostPort   `json:"hostPorts,omitempty"`
}

// hostPort sends a port of the node to a port of the Pod.
type hostPort struct {
	HostIP   netip.Addr `json:"hostIP,omitzero"` // zero is every address of the node
	HostPort uint16     `json:"hostPort"`
	Port     uint16     `json:"port"`
	Protocol byte       `json:"protocol"` // IPPROTO number
}

func (r *record) attachment(path string) Attachment {
	a := Attachment{NetNS: path}
	for _, ip := range r.IPs {
		a.IPs = append(a.IPs, ip.String())
	}
	return a
}

func (n *Network) recordDir() string { return filepath.Join(n.config.StateDir, "network") }

func (n *Network) recordPath(uid types.UID) string {
	return filepath.Join(n.recordDir(), string(uid)+".json")
}

// loadRecords reads all records. A torn one (which only a broken file system
// leaves) is an error of that Pod: it is removed, and Attach makes a new one.
func (n *Network) loadRecords() error {
	for _, dir := range []string{n.recordDir(), filepath.Join(n.config.StateDir, "netns")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	entries, err := os.ReadDir(n.recordDir())
	if err != nil {
		return fmt.Errorf("list pod records: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok { // a temporary file of a write that did not end
			if err := os.Remove(filepath.Join(n.recordDir(), e.Name())); err != nil {
				return fmt.Errorf("remove unfinished pod record: %w", err)
			}
			continue
		}
		data, err := os.ReadFile(filepath.Join(n.recordDir(), e.Name()))
		if err != nil {
			return fmt.Errorf("read pod record: %w", err)
		}
		r := &record{}
		if err := json.Unmarshal(data, r); err != nil || string(r.UID) != name {
			n.config.Log.Warn("dropping unreadable pod record", "file", e.Name(), "err", err)
			if err := os.Remove(filepath.Join(n.recordDir(), e.Name())); err != nil {
				return fmt.Errorf("remove unreadable pod record: %w", err)
			}
			continue
		}
		n.records[r.UID] = r
	}
	return nil
}

// lease finds the Pod's record or makes one with free addresses. A record
// whose addresses are not in the node's ranges any more is replaced.
func (n *Network) lease(pod *corev1.Pod) (*record, error) {
	if r := n.records[pod.UID]; r != nil && n.inRanges(r.IPs) {
		return r, nil
	}
	ports, err := hostPorts(pod)
	if err != nil {
		return nil, err
	}
	r := &record{UID: pod.UID, Pod: pod.Namespace + "/" + pod.Name, HostPorts: ports}
	taken := make(map[netip.Addr]bool)
	for _, other := range n.records {
		for _, ip := range other.IPs {
			taken[ip] = true
		}
	}
	for _, p := range n.ranges {
		ip, err := n.free(p, taken)
		if err != nil {
			return nil, err
		}
		r.IPs = append(r.IPs, ip)
	}
	if err := n.store(r); err != nil {
		return nil, err
	}
	n.records[pod.UID] = r
	return r, nil
}

func (n *Network) inRanges(ips []netip.Addr) bool {
	if len(ips) != len(n.ranges) {
		return false
	}
	for i, p := range n.ranges {
		if !p.Contains(ips[i]) {
			return false
		}
	}
	return true
}

// free picks an address of the range, going round so that one that was just
// released is not used again soon: peers may still have connections to it.
// The first address is the gateway's; the network and broadcast addresses of
// IPv4 are not used.
func (n *Network) free(p netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, error) {
	first := gateway(p).Next()
	start, ok := n.next[p]
	if !ok || !usable(p, start) {
		start = first
	}
	for ip := start; ; {
		if usable(p, ip) && !taken[ip] {
			n.next[p] = ip.Next()
			return ip, nil
		}
		if ip = ip.Next(); !usable(p, ip) {
			ip = first
		}
		if ip == start || !usable(p, first) {
			return netip.Addr{}, fmt.Errorf("no free address in pod CIDR %s", p)
		}
	}
}

func usable(p netip.Prefix, ip netip.Addr) bool {
	if !ip.IsValid() || !p.Contains(ip) {
		return false
	}
	return ip.Is6() || p.Contains(ip.Next())
}

// gateway is the node's address in a range: the first after the network's.
func gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// store writes the record so that a crash leaves the old one, the new one or
// none.
func (n *Network) store(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode pod record: %w", err)
	}
	path := n.recordPath(r.UID)
	temporary := path + ".tmp"
	if err := writeSynced(temporary, data); err != nil {
		return fmt.Errorf("write pod record: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write pod record: %w", err)
	}
	dir, err := os.Open(n.recordDir())
	if err != nil {
		return fmt.Errorf("sync pod records: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (n *Network) release(uid types.UID) error {
	if err := os.Remove(n.recordPath(uid)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pod record: %w", err)
	}
	delete(n.records, uid)
	return nil
}

// hostPorts collects the host ports of all containers of the Pod.
func hostPorts(pod *corev1.Pod) ([]hostPort, error) {
	var out []hostPort
	add := func(ports []corev1.ContainerPort) error {
		for _, p := range ports {
			if p.HostPort == 0 {
				continue
			}
			entry := hostPort{HostPort: uint16(p.HostPort), Port: uint16(p.ContainerPort), Protocol: protocol(p.Protocol)}
			if p.HostIP != "" {
				ip, err := netip.ParseAddr(p.HostIP)
				if err != nil {
					return fmt.Errorf("host IP of port %d: %w", p.HostPort, err)
				}
				if !ip.IsUnspecified() {
					entry.HostIP = ip.Unmap()
				}
			}
			out = append(out, entry)
		}
		return nil
	}
	for i := range pod.Spec.Containers {
		if err := add(pod.Spec.Containers[i].Ports); err != nil {
			return nil, err
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue // only sidecars listen while the Pod runs
		}
		if err := add(c.Ports); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func protocol(p corev1.Protocol) byte {
	switch p {
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	default:
		return unix.IPPROTO_TCP
	}
}
