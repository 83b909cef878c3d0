// Package command holds ctl's own commands, one per file, listed in
// registry.go. They are built by app and call package local, or the cluster
// through client-go. It starts no goroutines.
package command

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
)

// Env is what commands get from app: the standard streams and the flags that
// say which cluster (--kubeconfig, --context, ...). Both are required.
type Env struct {
	genericiooptions.IOStreams
	Flags *genericclioptions.ConfigFlags
}

// Error is a failure of one of our own commands, with its exit code.
type Error struct {
	// Code is the exit code: 1, or 2 for wrong usage.
	Code int
	// Err is the cause; never nil.
	Err error
	// Next tells what to do about it; may be "".
	Next string
}

// Error is the cause, and on a line of its own the next step.
func (e *Error) Error() string {
	if e.Next == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n" + e.Next
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// run wraps a command's work so that its errors carry an exit code, and
// cobra prints neither them nor the usage text.
func run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := do(cmd, args)
		if err == nil {
			return nil
		}
		if own, ok := err.(*Error); ok {
			return own
		}
		return &Error{Code: 1, Err: err}
	}
}

// noArgs refuses arguments with a message that says so.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &Error{Code: 2, Err: fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0]),
			Next: fmt.Sprintf("See '%s --help'.", cmd.CommandPath())}
	}
	return nil
}

func (e Env) client() (kubernetes.Interface, error) {
	config, err := e.Flags.ToRESTConfig()
	if err != nil {
		return nil, &Error{Code: 1, Err: err, Next: "Name a cluster with --kubeconfig, or make one with 'ctl up'."}
	}
	return kubernetes.NewForConfig(config)
}
