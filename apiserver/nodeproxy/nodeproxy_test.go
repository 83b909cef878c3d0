package nodeproxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/nodeproxy"
	"github.com/skeg-dev/skeg/apiserver/request"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// objects is a Reader of a few objects by resource.
type objects map[string][]resource.Object

func (o objects) Get(_ context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	for _, obj := range o[res.Resource] {
		if obj.GetName() == name && obj.GetNamespace() == namespace {
			return obj, nil
		}
	}
	return nil, apierrors.NewNotFound(res, name)
}

func (o objects) List(_ context.Context, res schema.GroupResource, _ string) ([]resource.Object, error) {
	return o[res.Resource], nil
}

// kubelet answers as a kubelet does, and switches to an echo protocol.
func kubelet(t *testing.T) (*httptest.Server, int32) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/containerLogs/x/p/gone"):
			http.Error(w, "container is waiting to start", http.StatusBadRequest)
		case r.Header.Get("Upgrade") == "SPDY/3.1":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Path: %s\r\n\r\n", r.URL.RequestURI())
			rw.Flush()
			io.Copy(conn, rw) //nolint:errcheck // ends with the connection
		default:
			fmt.Fprint(w, r.Method+" "+r.URL.RequestURI())
		}
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return server, int32(n)
}

// start serves the connectors and returns a client's base URL.
func start(t *testing.T) string {
	t.Helper()
	backend, port := kubelet(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "x"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}}},
		Status:     corev1.PodStatus{PodIP: "127.0.0.1"},
	}
	two := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "two", Namespace: "x"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}, {Name: "gone"}}},
	}
	reader := objects{
		"pods": {pod, two},
		"nodes": {&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n"},
			Status: corev1.NodeStatus{
				Addresses:       []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "wrong"}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
				DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: port}},
			},
		}},
		"services":       {&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "x"}}},
		"endpointslices": {&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "s1", Namespace: "x"}}},
	}
	roots := backend.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	connectors := nodeproxy.New(nodeproxy.Config{
		Reader: reader, KubeletTLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Logger: slog.New(slog.DiscardHandler),
	}).Connectors()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.Parse(r)
		req := handler.ConnectRequest{Info: &info}
		if obj, err := reader.Get(r.Context(), schema.GroupResource{Resource: info.Resource}, info.Namespace, info.Name); err == nil {
			req.Parent = obj
		}
		if err := connectors[info.Resource+"/"+info.Subresource].Connect(w, r, req); err != nil {
			codec.WriteError(w, r, err)
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func TestPlainRequests(t *testing.T) {
	base := start(t)
	tests := []struct {
		path string
		code int
		want string
	}{
		{"/api/v1/namespaces/x/pods/p/log?tailLines=3&follow=true", 200, "GET /containerLogs/x/p/c?follow=true&tailLines=3"},
		{"/api/v1/namespaces/x/pods/p/log?tailLines=-3", 422, "tailLines: Invalid value: -3: must be greater than or equal to 0"},
		{"/api/v1/namespaces/x/pods/two/log", 400, "a container name must be specified for pod two, choose one of: [c gone]"},
		{"/api/v1/namespaces/x/pods/p/log?container=no", 400, "container no is not valid for pod p"},
		{"/api/v1/namespaces/x/pods/p/exec?command=ls", 400, "Upgrade request required"},
		{"/api/v1/namespaces/x/pods/p/exec", 400, "you must specify at least 1 command for the container"},
		{"/api/v1/nodes/n/proxy/stats/summary?a=b", 200, "GET /stats/summary?a=b"},
		{"/api/v1/nodes/other/proxy/stats", 404, `nodes \"other\" not found`},
		{"/api/v1/namespaces/x/pods/p/proxy/", 400, "address not allowed"},
		{"/api/v1/namespaces/x/services/s/proxy/", 503, `no endpoints available for service \"s\"`},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			resp, err := http.Get(base + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.code || !strings.Contains(string(body), test.want) {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, body, test.code, test.want)
			}
		})
	}
}

func TestProtocolSwitch(t *testing.T) {
	base := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /api/v1/namespaces/x/pods/p/exec?command=cat&stdin=true&stdout=true HTTP/1.1\r\n"+
		"Host: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-Path") != "/exec/x/p/c?command=cat&input=1&output=1" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	fmt.Fprint(conn, "hello\n")
	line, err := in.ReadString('\n')
	if err != nil || line != "hello\n" {
		t.Errorf("echo %q, %v", line, err)
	}
}
