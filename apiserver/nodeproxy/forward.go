package nodeproxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/skeg-dev/skeg/apiserver/handler"
)

// nodeProxy serves nodes/proxy/<path>: that path of the kubelet.
func (p *Proxy) nodeProxy(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	_, name, _, ok := utilnet.SplitSchemeNamePort(req.Info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", req.Info.Name))
	}
	target, err := p.kubelet(r.Context(), name)
	if err != nil {
		return err
	}
	return p.relay(w, r, req, p.kubelets, target)
}

// podProxy serves pods/<[scheme:]name[:port]>/proxy/<path>.
func (p *Proxy) podProxy(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(req.Info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", req.Info.Name))
	}
	obj, err := p.reader.Get(r.Context(), podResource, req.Info.Namespace, name)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("read pod %q: got a %T", name, obj)
	}
	if port == "" {
		port = firstPort(pod)
	}
	if err := proxyable(pod.Status.PodIP); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	target := &url.URL{Scheme: orHTTP(scheme), Host: pod.Status.PodIP}
	if port != "" {
		target.Host = net.JoinHostPort(pod.Status.PodIP, port)
	}
	return p.relay(w, r, req, p.pods, target)
}

func firstPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			return strconv.Itoa(int(c.Ports[0].ContainerPort))
		}
	}
	return ""
}

// proxyable refuses addresses at which the API server would reach itself or
// the host's link instead of a workload.
func proxyable(address string) error {
	ip := net.ParseIP(address)
	if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() {
		return errNoTarget
	}
	return nil
}

func orHTTP(scheme string) string {
	if scheme == "" {
		return "http"
	}
	return scheme
}

// serviceProxy serves services/<[scheme:]name[:port]>/proxy/<path> from one of
// the Service's ready endpoints.
func (p *Proxy) serviceProxy(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(req.Info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", req.Info.Name))
	}
	obj, err := p.reader.Get(r.Context(), schema.GroupResource{Resource: "services"}, req.Info.Namespace, name)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	service, ok := obj.(*corev1.Service)
	if !ok {
		return fmt.Errorf("read service %q: got a %T", name, obj)
	}
	portName, err := servicePort(service, port)
	if err != nil {
		return err
	}
	host, err := p.endpoint(r.Context(), service, portName)
	if err != nil {
		return err
	}
	return p.relay(w, r, req, p.pods, &url.URL{Scheme: orHTTP(scheme), Host: host})
}

// servicePort resolves a port's name or number to its name.
func servicePort(service *corev1.Service, wanted string) (string, error) {
	if wanted == "" {
		return "", nil
	}
	number, err := strconv.Atoi(wanted)
	for _, port := range service.Spec.Ports {
		if port.Name == wanted || err == nil && int(port.Port) == number {
			return port.Name, nil
		}
	}
	if err != nil {
		return wanted, nil // upstream lets the endpoints decide
	}
	return "", unavailable(fmt.Sprintf("no service port %d found for service %q", number, service.Name))
}

func (p *Proxy) endpoint(ctx context.Context, service *corev1.Service, portName string) (string, error) {
	objs, err := p.reader.List(ctx, schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}, service.Namespace)
	if err != nil {
		return "", err //nolint:wrapcheck // a Status
	}
	var hosts []string
	for _, obj := range objs {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if ok && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
			hosts = append(hosts, readyHosts(slice, portName)...)
		}
	}
	if len(hosts) == 0 {
		return "", unavailable(fmt.Sprintf("no endpoints available for service %q", service.Name))
	}
	return hosts[rand.IntN(len(hosts))], nil
}

func readyHosts(slice *discoveryv1.EndpointSlice, portName string) []string {
	var out []string
	for _, port := range slice.Ports {
		if port.Port == nil || portName != "" && (port.Name == nil || *port.Name != portName) {
			continue
		}
		for _, e := range slice.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if ready && len(e.Addresses) > 0 && proxyable(e.Addresses[0]) == nil {
				out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*port.Port))))
			}
		}
	}
	return out
}

// relay forwards to the path behind ".../proxy". A browser that forgot the
// slash is told to add it, or relative links would lead astray.
func (p *Proxy) relay(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest, transport http.RoundTripper, base *url.URL) error {
	if req.Info.Tail == "" && !strings.HasSuffix(r.URL.Path, "/") && r.Method == http.MethodGet && r.Header.Get("Upgrade") == "" {
		location := r.URL.Path + "/"
		if r.URL.RawQuery != "" {
			location += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	base.Path = "/" + req.Info.Tail
	base.RawQuery = r.URL.RawQuery
	p.forward(w, r, transport, base, nil)
	return nil
}
