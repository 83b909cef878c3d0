package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// maxLines is where a file has become two (DESIGN, section 5).
const maxLines = 600

func TestFileLength(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.Lines > maxLines && !f.Test && !strings.HasPrefix(filepath.Base(f.Path), "z_") {
			t.Errorf("%s has %d lines, more than %d", f.Path, f.Lines, maxLines)
		}
	}
}

// dumpingGrounds are names that say nothing about what is inside.
var dumpingGrounds = []string{"util", "utils", "common", "helper", "helpers", "misc", "types"}

func TestNames(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(f.Path), ".go"), "_test")
		if slices.Contains(dumpingGrounds, base) || slices.Contains(dumpingGrounds, filepath.Base(f.Dir())) {
			t.Errorf("%s: the name says nothing about what is inside", f.Path)
		}
	}
}

func TestPackageCommentOnce(t *testing.T) {
	_, files := tree(t)
	comments := map[string][]string{}
	for _, f := range files {
		if f.Test {
			continue
		}
		if _, ok := comments[f.Dir()]; !ok {
			comments[f.Dir()] = nil
		}
		if f.Syntax.Doc != nil {
			comments[f.Dir()] = append(comments[f.Dir()], f.Path)
		}
	}
	for dir, with := range comments {
		if len(with) != 1 {
			t.Errorf("%s: want one package comment, found %d %v", dir, len(with), with)
		}
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.Test {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no doc comment", f.Path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", f.Path, ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	kind := d.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	if index, ok := kind.(*ast.IndexExpr); ok {
		kind = index.X
	}
	name, ok := kind.(*ast.Ident)
	return ok && name.IsExported()
}

// blankAllowed are imports that work by being linked in.
var blankAllowed = []string{
	"github.com/opencontainers/runc/libcontainer/nsenter", // C code that runs before Go in the shim
	"github.com/opencontainers/cgroups/devices",           // registers device rules with the cgroup managers
}

func TestNothingHappensByImport(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if f.Test {
			continue
		}
		for _, path := range f.Blank {
			if !slices.Contains(blankAllowed, path) && path != "embed" {
				t.Errorf("%s: blank import of %s", f.Path, path)
			}
		}
		for _, decl := range f.Syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && f.Path != "kubelet/shim/main.go" {
				t.Errorf("%s: func init; wire it in app/", f.Path)
			}
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	_, files := tree(t)
	for _, f := range files {
		if !f.Test {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && !f.ImportsBelow("testing/synctest") {
					t.Errorf("%s: time.Sleep in a test; wait for what you wait for", f.Path)
				}
			}
			return true
		})
	}
}

// registries are directories of extension members, whose files must be named
// in registry.go, so that the line cannot be forgotten.
var registries = []string{
	"apiserver/filter", "apiserver/admission", "scheduler/plugins",
	"kubelet/volume", "kubelet/lifecycle", "ctl/command",
}

func TestRegistriesAreComplete(t *testing.T) {
	root, files := tree(t)
	for _, dir := range registries {
		registry, err := os.ReadFile(filepath.Join(root, dir, "registry.go"))
		if err != nil {
			t.Errorf("no registry: %v", err)
			continue
		}
		for _, f := range files {
			if f.Dir() != dir || f.Test || filepath.Base(f.Path) == "registry.go" {
				continue
			}
			if constructors := constructors(f); len(constructors) > 0 && !slices.ContainsFunc(constructors, func(name string) bool {
				return regexp.MustCompile(`\b` + name + `\b`).Match(registry)
			}) {
				t.Errorf("%s: none of its constructors %v is in %s/registry.go", f.Path, constructors, dir)
			}
		}
	}
}

// constructors are the functions of a member file that a registry could name:
// NewX or newX without a receiver.
func constructors(f *File) []string {
	var names []string
	for _, decl := range f.Syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "New") || strings.HasPrefix(fn.Name.Name, "new")) {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}

func TestControllersAreRegistered(t *testing.T) {
	root, files := tree(t)
	registry, err := os.ReadFile(filepath.Join(root, "controller-manager/app/registry.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if filepath.Base(f.Path) == "controller.go" && strings.HasPrefix(f.Path, "controller-manager/controllers/") &&
			!strings.Contains(string(registry), `"`+Prefix+f.Dir()+`"`) {
			t.Errorf("%s is not in controller-manager/app/registry.go", f.Dir())
		}
	}
}

func TestKubernetesVersionsAgree(t *testing.T) {
	root, _ := tree(t)
	mods, err := filepath.Glob(filepath.Join(root, "*/go.mod"))
	if err != nil || len(mods) < 8 {
		t.Fatalf("found %d go.mod files: %v", len(mods), err)
	}
	versions := map[string]string{}
	for _, path := range mods {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.Parse(path, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range mod.Require {
			if !strings.HasPrefix(r.Mod.Path, "k8s.io/") {
				continue
			}
			if v, ok := versions[r.Mod.Path]; ok && v != r.Mod.Version {
				t.Errorf("%s: %s %s, elsewhere %s", path, r.Mod.Path, r.Mod.Version, v)
			}
			versions[r.Mod.Path] = r.Mod.Version
		}
	}
}

func TestArchitectureIsTrue(t *testing.T) {
	root, files := tree(t)
	data, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if n := strings.Count(text, "\n"); n > 200 {
		t.Errorf("ARCHITECTURE.md has %d lines, more than 200", n)
	}
	for _, quoted := range regexp.MustCompile("`([a-z][a-z0-9-]*/[a-zA-Z0-9_./-]*)`").FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(quoted[1], "bin/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, quoted[1])); err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which is not there", quoted[1])
		}
	}
	for _, f := range files {
		parts := strings.Split(f.Path, "/")
		if len(parts) < 3 || f.Test {
			continue
		}
		if top := parts[0] + "/" + parts[1]; !strings.Contains(text, "`"+top+"/") && !strings.Contains(text, "`"+top+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", top)
		}
	}
}
