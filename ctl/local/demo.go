package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The names in hack/demo.
const (
	demoNamespace = "demo"
	demoName      = "demo"
)

// Demo runs the demo application on a cluster that is up, and asks it for its
// page in the three ways that its users would.
type Demo struct {
	Up *Up
	// Ctl is the path of this program: the demo goes the way a user would.
	Ctl string
	// Manifests is a directory of YAML; Image an archive to load, or "".
	Manifests, Image string
}

// Run returns at the first step that fails.
func (d *Demo) Run(ctx context.Context) error {
	p := d.Up.Progress
	var service *corev1.Service
	var seen []string
	look := func(how, url string, fetch func() (string, error)) func() (string, error) {
		return func() (string, error) {
			page, err := d.retry(ctx, fetch)
			if err == nil {
				seen = append(seen, fmt.Sprintf("  %-16s %-45s %s", how, url, firstLine(page)))
			}
			return url, err
		}
	}
	if d.Image != "" {
		if err := p.Step("load demo image", func() (string, error) {
			out, err := d.ctl(ctx, "image", "load", d.Image)
			return strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "), err
		}); err != nil {
			return err
		}
	}
	err := p.Step("apply demo", func() (string, error) {
		if _, err := d.ctl(ctx, "apply", "-f", d.Manifests); err != nil {
			return "", err
		}
		var err error
		service, err = d.Up.client.CoreV1().Services(demoNamespace).Get(ctx, demoName, metav1.GetOptions{})
		return "", err
	})
	if err != nil {
		return err
	}
	err = p.Step("demo ready", func() (string, error) {
		_, err := d.ctl(ctx, "-n", demoNamespace, "rollout", "status", "deployment/"+demoName, "--timeout="+d.Up.Timeout.String())
		return "3 replicas", err
	})
	if err != nil {
		return err
	}
	port := service.Spec.Ports[0]
	clusterURL := "http://" + net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port))) + "/"
	nodeURL := "http://" + net.JoinHostPort(d.Up.Spec.NodeIP(1).String(), strconv.Itoa(int(port.NodePort))) + "/"
	dnsURL := fmt.Sprintf("http://%s.%s.svc.%s:%d/", demoName, demoNamespace, d.Up.Spec.Domain, port.Port)
	for _, s := range []struct {
		how, url string
		fetch    func() (string, error)
	}{
		{"Service IP", clusterURL, func() (string, error) { return get(ctx, clusterURL) }},
		{"NodePort", nodeURL, func() (string, error) { return get(ctx, nodeURL) }},
		{"DNS, in a pod", dnsURL, func() (string, error) {
			return d.ctl(ctx, "-n", demoNamespace, "exec", "deployment/"+demoName, "--", "/demo", "fetch", dnsURL)
		}},
	} {
		if err := p.Step("fetch by "+s.how, look(s.how, s.url, s.fetch)); err != nil {
			return err
		}
	}
	p.Say("\nthe demo said:\n%s", strings.Join(seen, "\n"))
	return nil
}

// retry repeats fetch while the rules of a new Service are on their way.
func (d *Demo) retry(ctx context.Context, fetch func() (string, error)) (page string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.Up.Timeout)
	defer cancel()
	for {
		if page, err = fetch(); err == nil {
			return page, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(err, ctx.Err())
		case <-time.After(10 * pollEvery):
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

// ctl runs this program with the cluster's kubeconfig.
func (d *Demo) ctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Ctl, append([]string{"--kubeconfig", d.Up.Layout.AdminKubeconfig()}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("ctl %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
