// Package apitest runs a whole API server inside a test: embedded etcd in a
// temporary directory (without fsync), TLS, authentication, RBAC, admission
// and the first objects. Its goroutines end with the test.
package apitest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/apiserver/app"
)

// startTimeout bounds the start; a loaded machine may take a while.
const startTimeout = 60 * time.Second

// Server is a running API server.
type Server struct {
	// Config is that of an administrator (group system:masters), without rate
	// limit; copy it before changing it.
	Config *rest.Config
	// Client uses Config.
	Client kubernetes.Interface
	// Kubeconfig is the path of the administrator's kubeconfig; beside it are
	// those of the components (scheduler.conf, controller-manager.conf).
	Kubeconfig string
	// PKIDir holds the authorities and keys.
	PKIDir string
	// URL is the server's address.
	URL string
}

// Option changes the options of a server before it starts.
type Option func(*app.Options)

// Start runs a server until the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := app.DefaultOptions()
	o.Listener = listener
	o.AdvertiseAddress = "127.0.0.1"
	o.PKIDir, o.KubeconfigDir = filepath.Join(dir, "pki"), dir
	o.Serving.CertDir = o.PKIDir
	o.Etcd.DataDir, o.Etcd.UnsafeNoFsync = filepath.Join(dir, "etcd"), true
	for _, option := range options {
		option(o)
	}
	if errs := o.Validate(); len(errs) > 0 {
		t.Fatalf("options: %v", errs)
	}
	server, err := app.New(o, slog.New(slog.NewTextHandler(logOutput(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	run(t, server)
	config, err := clientcmd.BuildConfigFromFlags("", server.AdminKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{
		Config: config, Client: client, Kubeconfig: server.AdminKubeconfig(), PKIDir: o.PKIDir,
		URL: "https://" + listener.Addr().String(),
	}
}

// run starts the server, waits until it is ready and stops it with the test.
func run(t testing.TB, server *app.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stop API server: %v", err)
		}
	})
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for server.Ready() != nil {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("start API server: %v", err)
		case <-deadline.C:
			t.Fatalf("start API server: not ready in time: %v", server.Ready())
		case <-tick.C:
		}
	}
}

// logOutput shows the server's log when SKEG_TEST_LOG is set.
func logOutput() io.Writer {
	if os.Getenv("SKEG_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}
