// Package arch holds the tree to its own rules: import directions, registries,
// file sizes, names, and an ARCHITECTURE.md that is true. The rules are tests;
// this file reads the tree for them. It starts no goroutines.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Prefix is what all module paths of the project start with.
const Prefix = "github.com/skeg-dev/skeg/"

// File is one Go source file.
type File struct {
	// Path is relative to the repository's root, with slashes.
	Path string
	// Lines is the number of lines.
	Lines int
	// Test says that the name ends in _test.go.
	Test bool
	// Imports are the import paths, and Blank those imported as _.
	Imports, Blank []string
	// Syntax is the parsed file, with comments.
	Syntax *ast.File
}

// Dir is the directory of the file, relative to the root.
func (f *File) Dir() string { return filepath.ToSlash(filepath.Dir(f.Path)) }

// Module is the first path element: the component.
func (f *File) Module() string {
	module, _, _ := strings.Cut(f.Path, "/")
	return module
}

// ImportsBelow reports whether the file imports path or something below it.
func (f *File) ImportsBelow(path string) bool {
	for _, imported := range f.Imports {
		if imported == path || strings.HasPrefix(imported, path+"/") {
			return true
		}
	}
	return false
}

// Root finds the repository's root, the directory with go.work, at or above
// the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("find go.work above %s: %w", dir, fs.ErrNotExist)
		}
		dir = parent
	}
}

// Read parses all Go files below root; test data and hidden directories are
// left out.
func Read(root string) ([]*File, error) {
	var files []*File
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := readFile(set, root, path)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func readFile(set *token.FileSet, root, path string) (*File, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	syntax, err := parser.ParseFile(set, path, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	f := &File{Path: filepath.ToSlash(rel), Lines: strings.Count(string(src), "\n"), Test: strings.HasSuffix(path, "_test.go"), Syntax: syntax}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("read imports of %s: %w", rel, err)
		}
		f.Imports = append(f.Imports, imported)
		if spec.Name != nil && spec.Name.Name == "_" {
			f.Blank = append(f.Blank, imported)
		}
	}
	return f, nil
}
