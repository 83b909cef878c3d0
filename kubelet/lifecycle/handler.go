package lifecycle

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// handle runs a postStart or preStop handler to its end.
func (k *Containers) handle(ctx context.Context, pod *Pod, c *corev1.Container, id container.ID, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return k.handleExec(ctx, id, h.Exec)
	case h.HTTPGet != nil:
		return handleHTTP(ctx, pod, c, h.HTTPGet)
	case h.Sleep != nil:
		timer := k.Clock.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-ctx.Done():
		}
		return nil
	case h.TCPSocket != nil:
		return handleTCP(ctx, pod, c, h.TCPSocket)
	default:
		return errors.New("handler of unknown kind")
	}
}

func (k *Containers) handleExec(ctx context.Context, id container.ID, action *corev1.ExecAction) error {
	var output bytes.Buffer
	sink := &limitedWriter{to: &output, left: 10 << 10}
	code, err := k.Runtime.Exec(ctx, id, container.ExecSpec{
		Args: action.Command, Streams: container.Streams{Stdout: sink, Stderr: sink},
	})
	if err != nil {
		return fmt.Errorf("run %q: %w", action.Command, err)
	}
	if code != 0 {
		return fmt.Errorf("command %q exited with %d: %s", action.Command, code, output.String())
	}
	return nil
}

// limitedWriter keeps the beginning of a command's output.
type limitedWriter struct {
	to   io.Writer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	keep := p[:min(len(p), w.left)]
	w.left -= len(keep)
	if _, err := w.to.Write(keep); err != nil {
		return 0, err
	}
	return len(p), nil
}

// handlerClient does not verify: the handler's server has whatever
// certificate its user gave it (API reference, HTTPGetAction.scheme).
var handlerClient = &http.Client{
	Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
		Proxy:             nil,
	},
}

func handleHTTP(ctx context.Context, pod *Pod, c *corev1.Container, action *corev1.HTTPGetAction) error {
	host, err := handlerHost(pod, action.Host)
	if err != nil {
		return err
	}
	port, err := resolvePort(c, action.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if action.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	path := action.Path
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	url := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("build request: %w", err)
	}
	for _, header := range action.HTTPHeaders {
		if http.CanonicalHeaderKey(header.Name) == "Host" {
			request.Host = header.Value
			continue
		}
		request.Header.Add(header.Name, header.Value)
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "kube-lifecycle/1.37")
	}
	response, err := handlerClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func handleTCP(ctx context.Context, pod *Pod, c *corev1.Container, action *corev1.TCPSocketAction) error {
	host, err := handlerHost(pod, action.Host)
	if err != nil {
		return err
	}
	port, err := resolvePort(c, action.Port)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func handlerHost(pod *Pod, host string) (string, error) {
	if host != "" {
		return host, nil
	}
	if len(pod.IPs) == 0 {
		return "", errors.New("pod has no address")
	}
	return pod.IPs[0], nil
}

func resolvePort(c *corev1.Container, port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	number, err := strconv.Atoi(port.StrVal)
	if err != nil {
		return 0, fmt.Errorf("container has no port named %q", port.StrVal)
	}
	return number, nil
}
