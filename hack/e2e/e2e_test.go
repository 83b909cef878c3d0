// Package e2e runs the whole system as users do: the binaries in bin/, a
// cluster of two nodes made by `ctl up` in a directory of its own, real images
// pulled from a registry that wants a password. It must run as root, and checks
// at the end that the machine is as it was before.
//
//	make test-e2e
//	go test ./hack/e2e -run TestHeart -keep    leave the cluster up afterwards
//	SKEG_E2E_SLOT=3 go test ./hack/e2e ...      beside other runs, slots 0 to 9
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var keep = flag.Bool("keep", false, "leave the cluster up; a later run continues with it")

// slot keeps runs on one machine apart: SKEG_E2E_SLOT, 0 to 9.
var slot = newSlot(os.Getenv("SKEG_E2E_SLOT"))

type slotValues struct{ name, nodes, pods, services, registry string }

func newSlot(n string) slotValues {
	if n == "" {
		n = "0"
	}
	return slotValues{
		name: "skege2e" + n, nodes: "10.22" + n + ".0.0/24", pods: "10.14" + n + ".0.0/16", services: "10.15" + n + ".0.0/16",
		registry: "10.22" + n + ".0.1:5000",
	}
}

// The cluster of this run.
var (
	root     string // of the repository
	stateDir string
	config   *rest.Config
	client   kubernetes.Interface
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: must run as root: it makes namespaces, mounts and cgroups")
		return 1
	}
	var err error
	if root, err = filepath.Abs("../.."); err == nil {
		err = setUp()
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "e2e: set up:", err)
	}
	if *keep {
		fmt.Fprintf(os.Stderr, "e2e: the cluster stays; export KUBECONFIG=%s/admin.conf\n", stateDir)
		return code
	}
	if err := tearDown(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: tear down:", err)
		return 1
	}
	return code
}

// before is the machine as it was.
var before host

func setUp() error {
	stateDir = filepath.Join(os.TempDir(), slot.name)
	if !*keep {
		if _, err := ctl(context.Background(), "down", "--state-dir", stateDir); err != nil {
			return fmt.Errorf("remove what an earlier run left: %w", err)
		}
	}
	var err error
	if before, err = snapshot(); err != nil {
		return fmt.Errorf("look at the machine: %w", err)
	}
	mirrors, err := writeMirrors()
	if err != nil {
		return err
	}
	started := time.Now()
	out, err := ctl(context.Background(), "up", "--state-dir", stateDir, "--name", slot.name, "--nodes", "2", "--demo", "none",
		"--node-cidr", slot.nodes, "--pod-cidr", slot.pods, "--service-cidr", slot.services, "--registry-config-dir", mirrors,
		"--controller-manager-arg=--node-monitor-grace-period=20s", "--controller-manager-arg=--node-monitor-period=1s")
	fmt.Println(out)
	if err != nil {
		return err
	}
	fmt.Printf("e2e: cluster up in %.1f s\n", time.Since(started).Seconds())
	if config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(stateDir, "admin.conf")); err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200
	if client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	return startRegistry(context.Background())
}

// tearDown removes the cluster and compares the machine with what it was. The
// logs of a failed run are kept.
func tearDown(failed bool) error {
	if failed {
		if err := keepLogs(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: keep logs:", err)
		}
	}
	stopRegistry()
	out, err := ctl(context.Background(), "down", "--state-dir", stateDir)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	after, err := snapshot()
	if err != nil {
		return fmt.Errorf("look at the machine: %w", err)
	}
	if diff := before.diff(after); diff != "" {
		return errors.New("the machine is not as it was before:\n" + diff)
	}
	fmt.Println("e2e: the machine is as it was before")
	return nil
}

func keepLogs() error {
	to := stateDir + "-logs"
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(filepath.Join(stateDir, "log"))); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "e2e: logs are in", to)
	return nil
}

func ctl(ctx context.Context, args ...string) (string, error) {
	return command(ctx, filepath.Join(root, "bin", "ctl"), args...)
}

// command runs a program against the cluster and returns its output; the error
// holds what it said on stderr.
func command(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(stateDir, "admin.conf"), "NO_COLOR=1")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// must runs ctl and fails the test with its message.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := ctl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// patience bounds every wait: generous, because the machine may be busy.
const patience = 3 * time.Minute

// eventually waits until check returns nil.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v: %v", what, err, last)
	}
}

// fetch gets a page over a connection of its own, as each request of a user
// behind a browser or a load balancer would.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// load asks url again and again from another goroutine until stopped, and
// counts.
type load struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	ok     int
	failed []failure
}

// failure is a request that failed, with the time it was started.
type failure struct {
	at  time.Time
	err error
}

func startLoad(t *testing.T, url string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			at := time.Now()
			_, err := fetch(ctx, url)
			l.count(ctx, at, err)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

func (l *load) count(ctx context.Context, at time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.ok++
	} else if ctx.Err() == nil {
		l.failed = append(l.failed, failure{at, err})
	}
}

// stop ends the load; the counts may be read afterwards.
func (l *load) stop() {
	l.cancel()
	<-l.done
}

// progress waits until n more requests have succeeded.
func (l *load) progress(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	goal := l.ok + n
	l.mu.Unlock()
	eventually(t, "requests succeed", func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ok < goal {
			return fmt.Errorf("%d of %d; failures: %v", l.ok, goal, l.failed)
		}
		return nil
	})
}

// none fails the test if a request started within [from, to) failed.
func (l *load) none(t *testing.T, what string, from, to time.Time) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.failed {
		if !f.at.Before(from) && f.at.Before(to) {
			t.Errorf("%s: at %s: %v", what, f.at.Format("15:04:05.000"), f.err)
		}
	}
}

// namespace makes a namespace for the test and removes it afterwards.
func namespace(t *testing.T, name string) {
	t.Helper()
	must(t, "create", "namespace", name)
	t.Cleanup(func() {
		if _, err := ctl(context.Background(), "delete", "namespace", name, "--timeout=120s"); err != nil {
			t.Error(err)
		}
	})
}

// apply applies a manifest given as text.
func apply(t *testing.T, manifest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "apply", "-f", path)
}
