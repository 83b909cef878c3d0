//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/netns"
)

// Dial connects to a TCP port on the loopback of the Pod's namespace, IPv4
// first: what port-forward reaches. A Pod that is not attached is taken for
// one on the host's network.
func (n *Network) Dial(ctx context.Context, uid types.UID, port uint16) (net.Conn, error) {
	path := n.config.HostNetNS
	if attachment, ok := n.Lookup(uid); ok {
		path = attachment.NetNS
	}
	var conn net.Conn
	err := netns.Do(path, func() error {
		// One literal address per call: the dialer then makes the socket on
		// this thread, which is in the namespace.
		var dialer net.Dialer
		var errs []error
		for _, host := range []string{"127.0.0.1", "::1"} {
			var err error
			conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of pod: %w", port, err)
	}
	return conn, nil
}
