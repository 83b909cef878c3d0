// Package app builds ctl's root command: the commands of
// k8s.io/kubectl/pkg/cmd, and those of package command beside them. It is
// called by main only and starts no goroutines.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/skeg-dev/skeg/ctl/command"
	"github.com/skeg-dev/skeg/ctl/local"
)

// Run executes the command line args (args[0] is the program) and returns the
// exit code. Commands taken over from kubectl end the process themselves on
// an error, with kubectl's codes.
func Run(args []string) int {
	useLocalKubeconfig()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	root := newRoot(ctx, args)
	err := cli.RunNoErrOutput(root)
	if err == nil {
		return 0
	}
	var own *command.Error
	if errors.As(err, &own) {
		fmt.Fprintln(os.Stderr, "error: "+own.Error())
		return own.Code
	}
	cmdutil.CheckErr(err) // kubectl's wording and exit code
	return 1
}

func newRoot(ctx context.Context, args []string) *cobra.Command {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(300).WithDiscoveryQPS(50.0).WithWarningPrinter(streams)
	own := command.Registry(command.Env{IOStreams: streams, Flags: flags})

	options := kubectl.KubectlOptions{Arguments: args, ConfigFlags: flags, IOStreams: streams}
	if !isOwn(own, args) {
		options.PluginHandler = kubectl.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes)
	}
	root := kubectl.NewDefaultKubectlCommandWithArgs(options)
	root.Use = "ctl"
	root.Short = "ctl controls a skeg (or any Kubernetes) cluster"
	root.Long = `ctl controls a cluster with the Kubernetes API: all of kubectl's commands, and
commands that make, inspect and remove a cluster on this machine:

  ctl up        make or continue a cluster on this machine
  ctl status    show what runs
  ctl stop      stop it and keep its data
  ctl down      remove everything`
	root.SetContext(ctx)
	for _, c := range own {
		for _, theirs := range root.Commands() {
			if theirs.Name() == c.Name() {
				root.RemoveCommand(theirs)
			}
		}
		root.AddCommand(c)
	}
	rename(root)
	return root
}

// isOwn keeps kubectl's plug-in search, which runs before our own commands are
// added, from looking for them. Flags may come first and have values, so any
// word counts.
func isOwn(own []*cobra.Command, args []string) bool {
	for _, c := range own {
		if slices.Contains(args[1:], c.Name()) {
			return true
		}
	}
	return false
}

// rename lets the examples of kubectl's help texts say what to type here.
func rename(c *cobra.Command) {
	c.Example = strings.ReplaceAll(c.Example, "kubectl ", "ctl ")
	c.Long = strings.ReplaceAll(c.Long, "kubectl ", "ctl ")
	for _, sub := range c.Commands() {
		rename(sub)
	}
}

// useLocalKubeconfig points clients at the cluster of `ctl up` when nobody
// chose another: no KUBECONFIG and no ~/.kube/config.
func useLocalKubeconfig() {
	if os.Getenv("KUBECONFIG") != "" {
		return
	}
	if home, err := os.UserHomeDir(); err == nil {
		if _, err := os.Stat(filepath.Join(home, ".kube", "config")); err == nil {
			return
		}
	}
	admin := local.Layout{Dir: local.DefaultDir()}.AdminKubeconfig()
	if f, err := os.Open(admin); err == nil {
		f.Close()
		os.Setenv("KUBECONFIG", admin)
	}
}
