//go:build linux

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/containertest"
	"github.com/skeg-dev/skeg/kubelet/server"
)

const patience = time.Minute

var id = container.ID{Pod: "u1", Name: "c"}

// kubelet is a server with one running container.
type kubelet struct {
	*server.Server
	url     string
	runtime *containertest.Fake
	logs    string
	echo    net.Listener // what port-forward reaches
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	k := &kubelet{runtime: containertest.NewFake(), logs: t.TempDir()}
	k.runtime.OnExec = command
	must(t, k.runtime.EnsureSandbox(t.Context(), container.SandboxSpec{Pod: "u1"}))
	k.start(t, id)
	var err error
	k.echo, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = k.echo.Close() })
	go serveEcho(k.echo)
	k.Server, err = server.New(server.Config{
		NodeName: "node-a", Runtime: k.runtime, Log: slog.New(slog.DiscardHandler), LogDir: k.logs,
		Pods: func() []*corev1.Pod {
			return []*corev1.Pod{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}, {Name: "later"}}},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning},
			}}
		},
		Dial: func(ctx context.Context, pod types.UID, port uint16) (net.Conn, error) {
			if pod != "u1" || port != 80 {
				return nil, fmt.Errorf("connect to port %d of pod: refused", port)
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", k.echo.Addr().String())
		},
		Traffic: func(types.UID) (server.Traffic, bool) { return server.Traffic{Link: "eth0", RxBytes: 7}, true },
	})
	must(t, err)
	listener := httptest.NewServer(k.Handler())
	t.Cleanup(listener.Close)
	k.url = listener.URL
	return k
}

func (k *kubelet) start(t *testing.T, id container.ID) {
	t.Helper()
	must(t, k.runtime.Create(t.Context(), container.Spec{ID: id, Args: []string{"sleep"}, LogPath: k.logPath(id)}))
	must(t, k.runtime.Start(t.Context(), id))
}

func (k *kubelet) logPath(id container.ID) string {
	return filepath.Join(k.logs, fmt.Sprintf("%d.log", id.Attempt))
}

func serveEcho(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// command is what containers run on exec.
func command(_ context.Context, _ container.ID, cmd container.ExecSpec) (int, error) {
	switch cmd.Args[0] {
	case "upper": // stdin to stdout in capitals, until its end
		data, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			return 0, err
		}
		if _, err := cmd.Stdout.Write(bytes.ToUpper(data)); err != nil {
			return 0, err
		}
		_, err = io.WriteString(cmd.Stderr, "warning")
		return 0, err
	case "fail":
		_, err := io.WriteString(cmd.Stdout, "before")
		return 3, err
	case "size": // the terminal's size, once known
		size := <-cmd.Resize
		_, err := fmt.Fprintf(cmd.Stdout, "%dx%d tty=%v", size.Width, size.Height, cmd.TTY)
		return 0, err
	default:
		return 0, fmt.Errorf("%w: %q: not found", container.ErrStart, cmd.Args[0])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// executors are client-go's two ways.
func executors(t *testing.T, k *kubelet, path string) map[string]remotecommand.Executor {
	t.Helper()
	target, err := url.Parse(k.url + path)
	must(t, err)
	config := &rest.Config{Host: k.url}
	overSPDY, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
	must(t, err)
	overWebSocket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
	must(t, err)
	return map[string]remotecommand.Executor{"SPDY": overSPDY, "WebSocket": overWebSocket}
}

func TestExec(t *testing.T) {
	k := newKubelet(t)
	for name, executor := range executors(t, k, "/exec/shop/web/c?command=upper&input=1&output=1&error=1") {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			must(t, executor.StreamWithContext(ctx, remotecommand.StreamOptions{
				Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errs,
			}))
			if out.String() != "HELLO" || errs.String() != "warning" {
				t.Errorf("got %q, %q", out.String(), errs.String())
			}
		})
	}
}

func TestExecEnds(t *testing.T) {
	k := newKubelet(t)
	for name, executor := range executors(t, k, "/exec/shop/web/u1/c?command=fail&output=1") {
		var out bytes.Buffer
		err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out})
		var exit exec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 3 || out.String() != "before" {
			t.Errorf("%s: %v, output %q", name, err, out.String())
		}
	}
	for name, executor := range executors(t, k, "/exec/shop/web/c?command=nope&output=1") {
		err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), `"nope": not found`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sizes tells of one terminal size.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecTTY(t *testing.T) {
	k := newKubelet(t)
	for name, executor := range executors(t, k, "/exec/shop/web/c?command=size&output=1&tty=1") {
		queue := make(sizes, 1)
		queue <- remotecommand.TerminalSize{Width: 80, Height: 24}
		var out bytes.Buffer
		err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: queue})
		close(queue)
		if err != nil || out.String() != "80x24 tty=true" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

func TestAttachEndsWithTheContainer(t *testing.T) {
	k := newKubelet(t)
	attempt := id
	for name, executor := range executors(t, k, "/attach/shop/web/c?output=1") {
		done := make(chan error, 1)
		go func() {
			done <- executor.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdout: io.Discard})
		}()
		await(t, "attach reaches the runtime", func() bool {
			return slices.Contains(k.runtime.Calls(), fmt.Sprintf("Attach c/%d", attempt.Attempt))
		})
		k.runtime.Exit(attempt, 0)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		attempt.Attempt++
		k.start(t, attempt)
	}
}

func await(t *testing.T, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-ctx.Done():
			t.Fatal("never: " + what)
		case <-tick.C:
		}
	}
}

func TestPortForward(t *testing.T) {
	k := newKubelet(t)
	target, err := url.Parse(k.url + "/portForward/shop/web")
	must(t, err)
	config := &rest.Config{Host: k.url}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	must(t, err)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, config)
	must(t, err)
	for name, dialer := range map[string]httpstream.Dialer{
		"SPDY":      spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		"WebSocket": tunnel,
	} {
		t.Run(name, func(t *testing.T) { forward(t, dialer) })
	}
}

func forward(t *testing.T, dialer httpstream.Dialer) {
	stop, ready := make(chan struct{}), make(chan struct{})
	var complaints bytes.Buffer
	pf, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{"0:80", "0:81"}, stop, ready, io.Discard, &complaints)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- pf.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("ended early: %v", err)
	}
	ports, err := pf.GetPorts()
	must(t, err)
	for range 3 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		must(t, err)
		big := bytes.Repeat([]byte("0123456789"), 20_000)
		go func() {
			_, _ = conn.Write(big)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("%d bytes of %d came back: %v", len(got), len(big), err)
		}
		must(t, conn.Close())
	}
	// A port nobody listens on closes that connection.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[1].Local))
	must(t, err)
	if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
		t.Errorf("refused port: %q, %v", got, err)
	}
	must(t, conn.Close())
	close(stop)
	if err := <-done; err != nil && !errors.Is(err, portforward.ErrLostConnectionToPod) {
		t.Error(err)
	}
}

func (k *kubelet) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get(k.url + path)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(body)
}

func TestLogs(t *testing.T) {
	k := newKubelet(t)
	must(t, os.WriteFile(k.logPath(id), []byte("2026-11-23T10:00:01Z stdout F one\n2026-11-23T10:00:02Z stderr F two\n"), 0o600))
	for _, test := range []struct {
		path string
		code int
		want string
	}{
		{"shop/web/c", 200, "one\ntwo\n"},
		{"shop/web/c?tailLines=1&timestamps=true", 200, "2026-11-23T10:00:02Z two\n"},
		{"shop/web/c?stream=Stdout", 200, "one\n"},
		{"shop/web/c?limitBytes=2", 200, "on"},
		{"shop/web/c?tailLines=-1", 400, "invalid tailLines"},
		{"shop/web/c?previous=true", 400, `previous terminated container "c" in pod "web" not found`},
		{"shop/web/later", 400, `container "later" in pod "web" is waiting to start: ContainerCreating`},
		{"shop/web/none", 404, `container "none" not found in pod "web"`},
		{"shop/none/c", 404, "pod does not exist"},
	} {
		if code, body := k.get(t, "/containerLogs/"+test.path); code != test.code || !strings.HasPrefix(body, test.want) {
			t.Errorf("%s: %d %q", test.path, code, body)
		}
	}
	k.runtime.Exit(id, 1)
	next := id
	next.Attempt = 1
	k.start(t, next)
	if code, body := k.get(t, "/containerLogs/shop/web/c?previous=true"); code != 200 || body != "one\ntwo\n" {
		t.Errorf("previous: %d %q", code, body)
	}
	if code, body := k.get(t, "/containerLogs/shop/web/c"); code != 200 || body != "" {
		t.Errorf("no output yet: %d %q", code, body)
	}
}

func TestFollowEndsWithTheContainer(t *testing.T) {
	k := newKubelet(t)
	must(t, os.WriteFile(k.logPath(id), []byte("2026-11-23T10:00:01Z stdout F one\n"), 0o600))
	response, err := http.Get(k.url + "/containerLogs/shop/web/c?follow=true")
	must(t, err)
	defer response.Body.Close()
	first := make([]byte, 4)
	_, err = io.ReadFull(response.Body, first)
	must(t, err)
	log, err := os.OpenFile(k.logPath(id), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = log.WriteString("2026-11-23T10:00:02Z stdout F two\n")
	must(t, err)
	must(t, log.Close())
	k.runtime.Exit(id, 0)
	rest, err := io.ReadAll(response.Body)
	if err != nil || string(first)+string(rest) != "one\ntwo\n" {
		t.Errorf("got %q, %v", string(first)+string(rest), err)
	}
}

func TestInformation(t *testing.T) {
	k := newKubelet(t)
	must(t, os.WriteFile(filepath.Join(k.logs, "syslog"), []byte("boot"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(k.logs, "escape")))
	for path, want := range map[string]string{
		"/pods":             `"name":"web","namespace":"shop","uid":"u1"`,
		"/runningpods/":     `"containers":[{"name":"c","resources":{}}]`,
		"/stats/summary":    `"podRef":{"name":"web","namespace":"shop","uid":"u1"}`,
		"/metrics/resource": `container_memory_working_set_bytes{container="c",namespace="shop",pod="web"}`,
		"/metrics/cadvisor": `container_network_receive_bytes_total{container="",id="/pods/u1",image="",interface="eth0",name="",namespace="shop",pod="web"} 7`,
		"/metrics/probes":   "",
		"/logs/syslog":      "boot",
	} {
		if code, body := k.get(t, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := k.get(t, "/logs/escape"); code == http.StatusOK {
		t.Errorf("a link out of the log directory was followed: %s", body)
	}
	var list corev1.PodList
	_, body := k.get(t, "/pods")
	must(t, json.Unmarshal([]byte(body), &list))
	if list.Kind != "PodList" || len(list.Items) != 1 {
		t.Errorf("got %+v", list)
	}
}

func TestResources(t *testing.T) {
	k := newKubelet(t)
	for request, want := range map[string]string{
		"GET /pods":                     "get nodes/pods,get nodes/proxy",
		"GET /containerLogs/a/b/c":      "get nodes/proxy",
		"GET /exec/a/b/c?command=x":     "create nodes/proxy",
		"POST /portForward/a/b":         "create nodes/proxy",
		"GET /stats/summary":            "get nodes/stats",
		"GET /metrics/cadvisor":         "get nodes/metrics",
		"GET /logs/syslog":              "get nodes/log",
		"GET /configz":                  "get nodes/configz,get nodes/proxy",
		"GET /healthz":                  "get nodes/healthz,get nodes/proxy",
		"DELETE /something":             "delete nodes/proxy",
		"GET /debug/pprof/goroutine?xx": "get nodes/proxy",
	} {
		method, target, _ := strings.Cut(request, " ")
		var got []string
		for _, a := range k.Resources(httptest.NewRequest(method, target, nil)) {
			if a.Name != "node-a" || a.Version != "v1" || a.Group != "" {
				t.Errorf("%s: %+v", request, a)
			}
			got = append(got, a.Verb+" "+a.Resource+"/"+a.Subresource)
		}
		if text := strings.Join(got, ","); text != want {
			t.Errorf("%s: %s, want %s", request, text, want)
		}
	}
}
