package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

type testOptions struct {
	Name   string
	Sizes  []int
	Gates  FeatureGates
	Config string
	faults []error
}

func (o *testOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Name, "name", o.Name, "A name")
	fs.IntSliceVar(&o.Sizes, "size", o.Sizes, "Sizes")
	fs.StringVar(&o.Config, "config", o.Config, "A file")
	AddFeatureGates(fs, &o.Gates)
	InFlagGroup(fs, "Special", func(fs *pflag.FlagSet) { fs.String("special", "", "Special") })
}
func (o *testOptions) Validate() []error  { return o.faults }
func (o *testOptions) ConfigFile() string { return o.Config }
func (o *testOptions) LoadConfig(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	o.Name, o.Sizes = strings.TrimSpace(string(content)), []int{7}
	return nil
}

func run(t *testing.T, p Program, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p.Name, p.Short = "tester", "Tests things"
	if p.Run == nil {
		p.Run = func(context.Context, *slog.Logger) error { return nil }
	}
	code = p.main(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestMainFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr []string
	}{
		"help":            {[]string{"--help"}, ExitOK, []string{"Tests things", "--name", "Special flags:", "--vmodule", "--version"}, nil},
		"version":         {[]string{"--version"}, ExitOK, []string{Version}, nil},
		"raw version":     {[]string{"--version=raw"}, ExitOK, []string{`"gitVersion": "` + Version + `"`}, nil},
		"unknown flag":    {[]string{"--nonsense"}, ExitUsage, nil, []string{"--nonsense", "--help"}},
		"argument":        {[]string{"stray"}, ExitUsage, nil, []string{`"stray"`}},
		"bad format":      {[]string{"--logging-format", "xml"}, ExitUsage, nil, []string{"--logging-format"}},
		"all log faults":  {[]string{"--logging-format", "xml", "--v", "-1"}, ExitUsage, nil, []string{"--logging-format", "--v"}},
		"bad gate":        {[]string{"--feature-gates", "A"}, ExitUsage, nil, []string{"--feature-gates"}},
		"gates":           {[]string{"--feature-gates", "A=true,B=false"}, ExitOK, nil, nil},
		"underscore flag": {[]string{"--logging_format=json"}, ExitOK, nil, []string{`"msg":"starting"`}},
		"short verbosity": {[]string{"-v=4"}, ExitOK, nil, []string{"starting"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, Program{Options: &testOptions{}}, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, c.code, stderr)
			}
			for _, want := range c.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, stdout)
				}
			}
			for _, want := range c.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr)
				}
			}
		})
	}
}

func TestMainReportsAllFaults(t *testing.T) {
	_, _, stderr := run(t, Program{Options: &testOptions{faults: []error{errors.New("--a: bad"), errors.New("--b: worse")}}})
	if !strings.Contains(stderr, "--a: bad") || !strings.Contains(stderr, "--b: worse") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestFlagsWinOverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &testOptions{}
	if code, _, stderr := run(t, Program{Options: o}, "--config", path); code != ExitOK || o.Name != "from-file" {
		t.Fatalf("code %d, name %q: %s", code, o.Name, stderr)
	}
	o = &testOptions{}
	run(t, Program{Options: o}, "--config", path, "--name", "from-flag", "--size", "1,2")
	if o.Name != "from-flag" || fmt.Sprint(o.Sizes) != "[1 2]" {
		t.Errorf("name %q, sizes %v", o.Name, o.Sizes)
	}
	if code, _, stderr := run(t, Program{Options: &testOptions{}}, "--config", path+".missing"); code != ExitUsage || !strings.Contains(stderr, "--config") {
		t.Errorf("missing file: code %d, %s", code, stderr)
	}
}

func TestMainExitCodes(t *testing.T) {
	code, _, stderr := run(t, Program{Options: &testOptions{}, Run: func(_ context.Context, l *slog.Logger) error {
		klog.InfoS("from a library", "key", "value")
		l.Debug("hidden")
		return errors.New("broken")
	}})
	if code != ExitError || !strings.Contains(stderr, "broken") || !strings.Contains(stderr, "from a library") || strings.Contains(stderr, "hidden") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

func TestNotifySystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, cancel := context.WithCancel(t.Context())
	g := &Group{Parts: []Part{{"one", RunFunc(func(ctx context.Context) error { <-ctx.Done(); return nil })}}}
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCgroupMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"v2":        {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.max": "1000\n"}, 1000},
		"v1":        {map[string]string{"proc/self/cgroup": "5:cpu,memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000\n"}, 2000},
		"unlimited": {map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"nothing":   {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range c.files {
				full := filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := cgroupMemoryLimit(root); got != c.want {
				t.Errorf("limit %d, want %d", got, c.want)
			}
		})
	}
}
