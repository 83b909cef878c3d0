package healthserver

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// freePort asks the kernel for one.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestServer(t *testing.T) {
	s := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	port := freePort(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}
	url := fmt.Sprintf("http://127.0.0.1:%d/anything", port)
	for _, c := range []struct {
		local, status int
		body          string
	}{
		{2, 200, `{"localEndpoints":2,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":true}` + "\n"},
		{0, 503, `{"localEndpoints":0,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":true}` + "\n"},
	} {
		if err := s.Sync([]ruleset.HealthCheck{{Service: "shop/web", Port: port, LocalEndpoints: c.local}}); err != nil {
			t.Fatal(err)
		}
		reply, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		if err != nil || reply.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%d: %s, %v", reply.StatusCode, body, err)
		}
		if got := reply.Header.Get("X-Load-Balancing-Endpoint-Weight"); got != fmt.Sprint(c.local) {
			t.Errorf("weight %q", got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(url); err == nil {
		t.Error("the port is open after Close")
	}
}

func TestTakenPortIsTriedAgain(t *testing.T) {
	other, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	checks := []ruleset.HealthCheck{{Service: "shop/web", Port: uint16(other.Addr().(*net.TCPAddr).Port)}}
	if err := s.Sync(checks); err == nil {
		t.Error("a taken port is no error")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(checks); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
