package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func ask(t *testing.T, p Prober, h corev1.ProbeHandler, ports ...corev1.ContainerPort) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if !p.Match(&h) {
		t.Fatal("does not match")
	}
	result, err := p.Probe(ctx, Target{IP: "127.0.0.1", Container: &corev1.Container{Ports: ports}}, &h)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != userAgent || r.Host != "virtual.example" || r.URL.RawQuery != "a=b" {
			http.Error(w, "wrong request", http.StatusTeapot)
		}
	})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.Handle("/here", http.RedirectHandler("/gone", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://elsewhere.invalid/", http.StatusFound))
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	for _, server := range []*httptest.Server{plain, secure} {
		address, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.Atoi(address.Port())
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]Result{
			"ok?a=b": {Outcome: Success},
			"/gone":  {Failure, "HTTP probe failed with statuscode: 503"},
			"/here":  {Failure, "HTTP probe failed with statuscode: 503"},
		} {
			got := ask(t, newHTTPProber(), corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: path, Port: intstr.FromString("web"), Scheme: corev1.URIScheme(strings.ToUpper(address.Scheme)),
				HTTPHeaders: []corev1.HTTPHeader{{Name: "host", Value: "virtual.example"}},
			}}, corev1.ContainerPort{Name: "web", ContainerPort: int32(port)})
			if got != want {
				t.Errorf("%s: %+v, want %+v", path, got, want)
			}
		}
		got := ask(t, newHTTPProber(), corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/away", Port: intstr.FromInt(port), Scheme: corev1.URIScheme(strings.ToUpper(address.Scheme))}})
		if got.Outcome != Warning {
			t.Errorf("redirect to another host: %+v", got)
		}
	}
	plain.Close()
	if got := ask(t, newHTTPProber(), corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: closedPort(t)}}); got.Outcome != Failure {
		t.Errorf("nobody listens: %+v", got)
	}
}

func closedPort(t *testing.T) intstr.IntOrString {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return intstr.FromInt(l.Addr().(*net.TCPAddr).Port)
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := intstr.FromInt(l.Addr().(*net.TCPAddr).Port)
	if got := ask(t, &tcpProber{}, corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: open}}); got.Outcome != Success {
		t.Errorf("open port: %+v", got)
	}
	if got := ask(t, &tcpProber{}, corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: closedPort(t)}}); got.Outcome != Failure {
		t.Errorf("closed port: %+v", got)
	}
	h := &corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("nope")}}
	if _, err := (&tcpProber{}).Probe(t.Context(), Target{Container: &corev1.Container{}}, h); err == nil {
		t.Error("a port without a number was asked")
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, checks := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, checks)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	checks.SetServingStatus("bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for service, want := range map[string]Outcome{"": Success, "bad": Failure, "none": Failure} {
		got := ask(t, &grpcProber{}, corev1.ProbeHandler{GRPC: &corev1.GRPCAction{
			Port: int32(l.Addr().(*net.TCPAddr).Port), Service: ptr.To(service)}})
		if got.Outcome != want {
			t.Errorf("service %q: %+v", service, got)
		}
	}
}

// shell is a runtime that only runs commands.
type shell struct{ container.Containers }

func (shell) Exec(ctx context.Context, _ container.ID, cmd container.ExecSpec) (int, error) {
	switch cmd.Args[0] {
	case "true":
		return 0, nil
	case "false":
		_, err := cmd.Stdout.Write([]byte("sorry" + strings.Repeat("!", 2*maxBody)))
		return 1, err
	case "hang":
		<-ctx.Done()
		return -1, ctx.Err()
	case "none":
		return -1, container.ErrStart
	default:
		return -1, errors.New("runtime is away")
	}
}

func TestExec(t *testing.T) {
	p := &execProber{runtime: shell{}}
	command := func(name string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}}
	}
	if got := ask(t, p, command("true")); got.Outcome != Success {
		t.Errorf("true: %+v", got)
	}
	if got := ask(t, p, command("false")); got.Outcome != Failure || !strings.HasPrefix(got.Output, "sorry!") || len(got.Output) != maxBody {
		t.Errorf("false: %s, %d bytes", got.Outcome, len(got.Output))
	}
	if got := ask(t, p, command("none")); got.Outcome != Failure {
		t.Errorf("none: %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	h := command("hang")
	if got, err := p.Probe(ctx, Target{}, &h); err != nil || got.Outcome != Failure {
		t.Errorf("hang: %+v, %v", got, err)
	}
	h = command("away")
	if _, err := p.Probe(t.Context(), Target{}, &h); err == nil {
		t.Error("an error of the runtime was taken for an outcome")
	}
}
