package arch

import (
	"slices"
	"strings"
	"testing"
)

func tree(t *testing.T) (string, []*File) {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("read only %d files below %s: the rules would hold for nothing", len(files), root)
	}
	return root, files
}

// forbidden are other people's systems (DESIGN, section 1): in tests they are
// welcome as oracles.
var forbidden = []string{
	"k8s.io/kubernetes",
	"k8s.io/apiserver/pkg/server",
	"k8s.io/apiserver/pkg/registry",
	"k8s.io/apiserver/pkg/storage",
	"k8s.io/apiserver/pkg/endpoints",
	"k8s.io/kube-scheduler/framework",
	"k8s.io/endpointslice",
	"k8s.io/controller-manager",
	"k8s.io/cloud-provider",
	"sigs.k8s.io/controller-runtime",
}

func TestNoUpstreamServers(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.Test {
			continue
		}
		for _, path := range forbidden {
			if f.ImportsBelow(path) {
				t.Errorf("%s imports %s", f.Path, path)
			}
		}
	}
}

// fences are imports that only some places may have.
var fences = []struct {
	path  string
	allow []string // path prefixes of files
}{
	{"go.etcd.io/etcd/client", []string{"apiserver/store/etcd/", "apiserver/etcdserver/", "hack/"}},
	{"go.etcd.io/etcd/server", []string{"apiserver/etcdserver/", "hack/"}},
	{"github.com/opencontainers/runc/libcontainer/nsenter", []string{"kubelet/shim/main.go"}},
	{"github.com/opencontainers/runc", []string{"kubelet/shim/runc/", "kubelet/shim/main.go"}},
	{"github.com/gorilla/mux", []string{"apiserver/route/"}},
	{"k8s.io/client-go/kubernetes/fake", []string{"controller-manager/reconcile/reconciletest/"}},
}

func TestFencedImports(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.Test {
			continue
		}
		for _, fence := range fences {
			if f.ImportsBelow(fence.path) && !slices.ContainsFunc(fence.allow, func(p string) bool { return strings.HasPrefix(f.Path, p) }) {
				t.Errorf("%s imports %s, which only %v may", f.Path, fence.path, fence.allow)
			}
		}
	}
}

func TestComponentsMeetOnlyAtTheAPI(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		module := f.Module()
		for _, imported := range f.Imports {
			rest, ours := strings.CutPrefix(imported, Prefix)
			if !ours {
				continue
			}
			other, _, _ := strings.Cut(rest, "/")
			switch {
			case other == module, other == "internal", module == "hack":
			default:
				t.Errorf("%s imports %s: a component imports only internal", f.Path, imported)
			}
		}
	}
}

func TestOnlyMainImportsApp(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		for _, imported := range f.Imports {
			rest, ours := strings.CutPrefix(imported, Prefix)
			if ours && strings.HasSuffix(rest, "/app") && f.Dir() != f.Module() && f.Module() != "hack" &&
				f.Dir() != rest && f.Dir() != "apiserver/apitest" {
				t.Errorf("%s imports %s: only main does", f.Path, imported)
			}
		}
	}
}

// contracts import only internal, the API types and the standard library
// (DESIGN 2.3), so that implementations depend on them and not the reverse.
var contracts = []string{
	"apiserver/resource", "apiserver/store", "scheduler/framework", "controller-manager/reconcile",
	"kubelet/container", "proxy/backend",
}

func TestContractsStandAlone(t *testing.T) {
	_, files := tree(t)
	seen := map[string]bool{}
	for _, f := range files {
		if f.Test || !slices.Contains(contracts, f.Dir()) {
			continue
		}
		seen[f.Dir()] = true
		for _, imported := range f.Imports {
			rest, ours := strings.CutPrefix(imported, Prefix)
			if ours && !strings.HasPrefix(rest, "internal/") && !slices.Contains(contracts, rest) && rest != "proxy/ruleset" {
				t.Errorf("contract %s imports %s", f.Path, imported)
			}
		}
	}
	for _, dir := range contracts {
		if !seen[dir] {
			t.Errorf("no contract in %s", dir)
		}
	}
}

func TestKernelPackagesStayOnNodes(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		switch f.Module() {
		case "apiserver", "scheduler", "controller-manager", "ctl":
			for _, dir := range []string{"nft", "netns", "netmark"} {
				if f.ImportsBelow(Prefix + "internal/" + dir) {
					t.Errorf("%s imports internal/%s, which only kubelet and proxy may", f.Path, dir)
				}
			}
		}
	}
}
