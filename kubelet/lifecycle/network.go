package lifecycle

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// Networking attaches a Pod to the Pod network, or leaves it on the host's.
type Networking struct {
	Network Network
	// HostIPs are the node's addresses, primary first.
	HostIPs func() []string
	// Environment names the Pod.
	Environment Environment
}

// Name is "network".
func (*Networking) Name() string { return "network" }

// Prepare gives the Pod its namespace, addresses and host name.
func (n *Networking) Prepare(ctx context.Context, pod *Pod) error {
	hostname, err := n.Environment.Hostname(pod.API)
	if err != nil {
		return &Failure{Reason: "FailedCreatePodSandBox", Err: fmt.Errorf("choose hostname: %w", err)}
	}
	pod.Hostname = hostname
	pod.HostIPs = n.HostIPs()
	if pod.API.Spec.HostNetwork {
		pod.NetNS, pod.IPs = "", pod.HostIPs
		return nil
	}
	attachment, err := n.Network.Attach(ctx, pod.API)
	if err != nil {
		return &Failure{
			Reason:  "FailedCreatePodSandBox",
			Message: fmt.Sprintf("Failed to create pod sandbox: set up network: %v", err),
			Err:     fmt.Errorf("attach to network: %w", err),
		}
	}
	pod.NetNS, pod.IPs = attachment.NetNS, attachment.IPs
	return nil
}

// Cleanup detaches.
func (n *Networking) Cleanup(ctx context.Context, uid types.UID) error {
	return n.Network.Detach(ctx, uid)
}
