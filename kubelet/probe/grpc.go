package probe

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

// grpcProber asks the standard health service.
type grpcProber struct{}

func (*grpcProber) Match(h *corev1.ProbeHandler) bool { return h.GRPC != nil }

func (*grpcProber) Probe(ctx context.Context, target Target, h *corev1.ProbeHandler) (Result, error) {
	service := ""
	if h.GRPC.Service != nil {
		service = *h.GRPC.Service
	}
	address := net.JoinHostPort(target.IP, strconv.Itoa(int(h.GRPC.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithUserAgent(userAgent), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return Result{}, fmt.Errorf("make gRPC client: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	if err != nil {
		return Result{Failure, grpcFailure(address, service, err)}, nil
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return Result{Failure, fmt.Sprintf("service unhealthy (responded with %q)", answer.GetStatus())}, nil
	}
	return Result{Outcome: Success, Output: "service healthy"}, nil
}

func grpcFailure(address, service string, err error) string {
	switch status.Code(err) {
	case codes.Unimplemented:
		return fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", err)
	case codes.DeadlineExceeded:
		return fmt.Sprintf("timeout: failed to connect service %q within the probe's timeout: %s", address, err)
	case codes.NotFound:
		return fmt.Sprintf("error: health rpc does not know service %q: %s", service, err)
	default:
		return fmt.Sprintf("error: health rpc probe failed: %s", err)
	}
}
