package local

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSpecFaultsNameTheirFlags(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		want   []string
	}{
		"default":   {func(*Spec) {}, nil},
		"no nodes":  {func(s *Spec) { s.Nodes = 0 }, []string{"--nodes"}},
		"too many":  {func(s *Spec) { s.Nodes = maxNodes + 1 }, []string{"--nodes"}},
		"port":      {func(s *Spec) { s.Port = 70000 }, []string{"--port"}},
		"mode":      {func(s *Spec) { s.ProxyMode = "iptables" }, []string{"--proxy-mode"}},
		"name":      {func(s *Spec) { s.Name = "My-Cluster" }, []string{"--name"}},
		"overlap":   {func(s *Spec) { s.PodCIDR = s.ServiceCIDR }, []string{"--service-cidr", "overlaps --pod-cidr"}},
		"too small": {func(s *Spec) { s.NodeCIDR = netip.MustParsePrefix("10.1.0.0/28") }, []string{"--node-cidr"}},
		"IPv6":      {func(s *Spec) { s.PodCIDR = netip.MustParsePrefix("fd00::/48") }, []string{"--pod-cidr"}},
		"all at once": {func(s *Spec) { s.Nodes, s.Port, s.ProxyMode = -1, 0, "" },
			[]string{"--nodes", "--port", "--proxy-mode"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := DefaultSpec()
			c.change(&s)
			err := s.Validate()
			if (err == nil) != (c.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not name %s", err, text)
				}
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	s := DefaultSpec()
	for what, got := range map[string]string{
		"10.201.0.1": s.HostIP().String(), "10.201.0.11": s.NodeIP(1).String(), "10.96.0.10": s.DNSIP().String(),
		"https://10.201.0.1:6443": s.Server(),
	} {
		if got != what {
			t.Errorf("got %s, want %s", got, what)
		}
	}
	s.Nodes = maxNodes
	if last := s.NodeIP(maxNodes); !s.NodeCIDR.Contains(last) {
		t.Errorf("the last node's %s is outside %s", last, s.NodeCIDR)
	}
}

func TestSpecIsKept(t *testing.T) {
	l := Layout{Dir: t.TempDir()}
	if _, err := Load(l); err == nil || !strings.Contains(err.Error(), "ctl up") {
		t.Errorf("an empty directory: %v", err)
	}
	want := DefaultSpec()
	want.Nodes = 5
	if err := writeJSON(l.path("cluster.json"), want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(l)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(l.path("cluster.json"), []byte("{torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(l); err == nil || !strings.Contains(err.Error(), "cluster.json") {
		t.Errorf("a torn file: %v", err)
	}
}

func testLayout(t *testing.T) Layout {
	t.Helper()
	l := Layout{Dir: t.TempDir()}
	for _, dir := range []string{"log", "run"} {
		if err := os.Mkdir(l.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestProcessIsStartedOnceAndStopped(t *testing.T) {
	l := testLayout(t)
	p := process{name: "sleeper", args: []string{"/bin/sleep", "600"}}
	exited, err := start(l, p)
	if err != nil || exited == nil {
		t.Fatalf("start: %v", err)
	}
	pid, running := findProcess(l, "sleeper")
	if !running {
		t.Fatal("it does not run")
	}
	if again, err := start(l, p); err != nil || again != nil {
		t.Errorf("a second start: %v, %v", again, err)
	}
	if now, _ := findProcess(l, "sleeper"); now != pid {
		t.Errorf("process %d became %d", pid, now)
	}
	for range 2 { // the second finds nothing to do
		if err := stop(t.Context(), l, "sleeper"); err != nil {
			t.Fatal(err)
		}
	}
	<-exited
	if _, running := findProcess(l, "sleeper"); running {
		t.Error("it still runs")
	}
}

func TestAnotherProcessWithTheSameIDIsNotOurs(t *testing.T) {
	l := testLayout(t)
	stranger := exec.Command("/bin/sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stranger.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := stranger.Wait(); err == nil {
			t.Error("it was not killed by us")
		}
	}()
	if err := writeJSON(l.pidFile("x"), pidRecord{PID: stranger.Process.Pid, StartTime: 1}); err != nil {
		t.Fatal(err)
	}
	if _, running := findProcess(l, "x"); running {
		t.Error("taken for ours")
	}
	if err := stop(context.Background(), l, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := startTime(stranger.Process.Pid); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
}

func TestControlPlaneStopsLast(t *testing.T) {
	l := testLayout(t)
	for _, name := range []string{"apiserver", "node-1-proxy", "scheduler", "node-1-kubelet", "controller-manager"} {
		if err := os.WriteFile(l.pidFile(name), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := processes(l)
	want := "node-1-kubelet node-1-proxy controller-manager scheduler apiserver"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestMountsAreListedDeepestFirst(t *testing.T) {
	all, err := mountsBelow("/proc")
	if err != nil || len(all) == 0 || all[len(all)-1] != "/proc" {
		t.Errorf("got %v, %v", all, err)
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("got %q", got)
	}
}

func TestBootstrapKubeconfigHoldsOnlyTheToken(t *testing.T) {
	dir := t.TempDir()
	admin := filepath.Join(dir, "admin.conf")
	err := os.WriteFile(admin, []byte(`apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: Y2E=}}]
users: [{name: u, user: {client-certificate-data: Y2VydA==, client-key-data: c2VjcmV0}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node", "bootstrap.conf")
	if err := writeBootstrap(admin, path, "abcdef.0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if strings.Contains(text, "c2VjcmV0") || !strings.Contains(text, "abcdef.0123456789abcdef") || !strings.Contains(text, "10.0.0.1") {
		t.Errorf("got\n%s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
