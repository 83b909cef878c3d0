package probe

import (
	"context"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// tcpProber succeeds when a connection can be opened.
type tcpProber struct{}

func (*tcpProber) Match(h *corev1.ProbeHandler) bool { return h.TCPSocket != nil }

func (*tcpProber) Probe(ctx context.Context, target Target, h *corev1.ProbeHandler) (Result, error) {
	port, err := portNumber(target.Container, h.TCPSocket.Port)
	if err != nil {
		return Result{}, err
	}
	host := h.TCPSocket.Host
	if host == "" {
		host = target.IP
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return Result{Failure, err.Error()}, nil
	}
	if err := conn.Close(); err != nil {
		return Result{Warning, "close connection: " + err.Error()}, nil
	}
	return Result{Outcome: Success}, nil
}

// portNumber resolves a port of the container by number or name.
func portNumber(c *corev1.Container, port intstr.IntOrString) (string, error) {
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				return strconv.Itoa(int(p.ContainerPort)), nil
			}
		}
	}
	number := port.IntValue()
	if number < 1 || number > 65535 {
		return "", fmt.Errorf("container %s has no port %q", c.Name, port.String())
	}
	return strconv.Itoa(number), nil
}
