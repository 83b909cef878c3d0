package command

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skeg-dev/skeg/ctl/local"
	"github.com/skeg-dev/skeg/ctl/progress"
)

type upOptions struct {
	stateDir string
	bin      string
	demo     string
	mirrors  string
	timeout  time.Duration
	quiet    bool
	spec     local.Spec
}

func newUp(env Env) *cobra.Command {
	o := upOptions{spec: local.DefaultSpec()}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make a cluster on this machine, or continue it",
		Long: `Make a cluster on this machine, or continue the one that 'ctl stop' left.

The control plane runs on the host; each node is a network namespace with its
own kubelet, proxy, pod network and images. A demo application is started and
asked for its page, unless --demo=none. Running it again is harmless.`,
		Example: `  # two nodes and the demo
  sudo ctl up

  # three nodes, nothing on them
  sudo ctl up --nodes 3 --demo none`,
		Args: noArgs,
	}
	f := cmd.Flags()
	stateDirFlag(f, &o.stateDir)
	f.StringVar(&o.bin, "bin", "", "directory of the components' binaries (default: that of ctl)")
	f.StringVar(&o.demo, "demo", "auto", "directory of the demo's manifests; 'auto' finds hack/demo beside the binaries, 'none' leaves it out")
	f.StringVar(&o.mirrors, "registry-config-dir", "", "directory of registry mirrors for the nodes, <host>/hosts.toml as containerd reads them")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long each step may take")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print failures only")
	f.StringVar(&o.spec.Name, "name", o.spec.Name, "what the names of namespaces, links and cgroups on this machine start with")
	f.IntVar(&o.spec.Nodes, "nodes", o.spec.Nodes, "how many nodes")
	f.IntVar(&o.spec.Port, "port", o.spec.Port, "port of the API server")
	f.StringVar(&o.spec.ProxyMode, "proxy-mode", o.spec.ProxyMode, "auto, nftables or ipvs")
	f.StringArrayVar(&o.spec.ControllerManagerArgs, "controller-manager-arg", nil, "further flag of the controller-manager, such as --node-monitor-grace-period=10s (repeatable)")
	f.StringVar(&o.spec.Domain, "cluster-domain", o.spec.Domain, "domain of the cluster's DNS names")
	f.Var(&prefixValue{&o.spec.NodeCIDR}, "node-cidr", "network of the nodes")
	f.Var(&prefixValue{&o.spec.PodCIDR}, "pod-cidr", "network of the pods, a /24 per node")
	f.Var(&prefixValue{&o.spec.ServiceCIDR}, "service-cidr", "addresses of Services")
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error { return o.run(cmd, env) })
	return cmd
}

func stateDirFlag(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "state-dir", local.DefaultDir(), "directory of the cluster's files (SKEG_STATE)")
}

func (o *upOptions) run(cmd *cobra.Command, env Env) error {
	layout := local.Layout{Dir: o.stateDir}
	if err := o.adopt(cmd, layout); err != nil {
		return err
	}
	if err := o.spec.Validate(); err != nil {
		return &Error{Code: 2, Err: err}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the binaries: %w", err)
	}
	if o.bin == "" {
		o.bin = filepath.Dir(self)
	}
	if o.mirrors != "" {
		if o.mirrors, err = filepath.Abs(o.mirrors); err != nil {
			return fmt.Errorf("--registry-config-dir: %w", err)
		}
	}
	p := progress.New(env.Out, o.quiet)
	up := &local.Up{Layout: layout, Spec: o.spec, Bin: o.bin, Timeout: o.timeout, Mirrors: o.mirrors, Progress: p}
	if err := up.Run(cmd.Context()); err != nil {
		return &Error{Code: 1, Err: err, Next: "Logs are in " + filepath.Join(o.stateDir, "log") + "; 'ctl up' tries again, 'ctl down' removes everything."}
	}
	hint := ""
	if dir, image := o.findDemo(); dir != "" {
		demo := local.Demo{Up: up, Ctl: self, Manifests: dir, Image: image}
		if err := demo.Run(cmd.Context()); err != nil {
			return &Error{Code: 1, Err: err, Next: "The cluster runs; try: export KUBECONFIG=" + layout.AdminKubeconfig() + "; ctl -n demo describe pods"}
		}
		hint = " -n demo"
	}
	p.Say("\nup in %.2fs. To use it:\n\n  export KUBECONFIG=%s\n\n  ctl get nodes -o wide\n  ctl get all%s\n  ctl status",
		p.Elapsed().Seconds(), layout.AdminKubeconfig(), hint)
	return nil
}

// adopt takes what was not given on the command line from the cluster that is
// there, and refuses to change what cannot be changed in place.
func (o *upOptions) adopt(cmd *cobra.Command, layout local.Layout) error {
	old, err := local.Load(layout)
	if errors.Is(err, local.ErrNoCluster) {
		return nil
	}
	if err != nil {
		return err
	}
	wanted := o.spec
	o.spec = old
	if cmd.Flags().Changed("nodes") {
		o.spec.Nodes = wanted.Nodes
	}
	if cmd.Flags().Changed("proxy-mode") {
		o.spec.ProxyMode = wanted.ProxyMode
	}
	if cmd.Flags().Changed("controller-manager-arg") {
		o.spec.ControllerManagerArgs = wanted.ControllerManagerArgs
	}
	for _, f := range []struct {
		flag     string
		old, new any
	}{
		{"name", old.Name, wanted.Name}, {"port", old.Port, wanted.Port}, {"cluster-domain", old.Domain, wanted.Domain},
		{"node-cidr", old.NodeCIDR, wanted.NodeCIDR}, {"pod-cidr", old.PodCIDR, wanted.PodCIDR}, {"service-cidr", old.ServiceCIDR, wanted.ServiceCIDR},
	} {
		if cmd.Flags().Changed(f.flag) && f.old != f.new {
			return &Error{Code: 2, Err: fmt.Errorf("--%s: the cluster in %s was made with %v", f.flag, layout.Dir, f.old),
				Next: "Remove it first with 'ctl down', or use another --state-dir."}
		}
	}
	return nil
}

// findDemo returns the directory of the demo's manifests and its image, or "".
func (o *upOptions) findDemo() (manifests, image string) {
	switch o.demo {
	case "none":
		return "", ""
	case "auto":
		manifests = filepath.Join(o.bin, "..", "hack", "demo")
	default:
		manifests = o.demo
	}
	image = filepath.Join(o.bin, "demo-image.tar")
	if _, err := os.Stat(manifests); err != nil && o.demo == "auto" {
		return "", ""
	}
	if _, err := os.Stat(image); err != nil {
		image = ""
	}
	return manifests, image
}

// prefixValue is a flag that holds an address range.
type prefixValue struct{ p *netip.Prefix }

// String is the range as given.
func (v *prefixValue) String() string {
	if v.p == nil {
		return ""
	}
	return v.p.String()
}

// Set parses a range such as 10.0.0.0/16.
func (v *prefixValue) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		*v.p = p.Masked()
	}
	return err
}

// Type is shown in the help text.
func (v *prefixValue) Type() string { return "cidr" }
