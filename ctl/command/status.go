package command

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/ctl/local"
)

// apiPatience is how long status waits for the API server.
const apiPatience = 3 * time.Second

func newStatus(env Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster on this machine: processes, memory, nodes",
		Long: `Show the processes of the cluster that 'ctl up' made, and what its API says of
the nodes. Exits with 1 when something that should run does not.`,
		Args: noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return status(cmd.Context(), env, local.Layout{Dir: dir})
		}),
	}
	stateDirFlag(cmd.Flags(), &dir)
	return cmd
}

func status(ctx context.Context, env Env, l local.Layout) error {
	spec, err := local.Load(l)
	if err != nil {
		return err
	}
	all, err := local.Processes(l)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &Error{Code: 1, Err: errors.New("the cluster is stopped"), Next: "Continue it with 'ctl up'."}
	}
	w := tabwriter.NewWriter(env.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "PROCESS\tSTATE\tPID\tMEMORY\tLOG")
	var total int64
	down := 0
	for _, p := range all {
		state, pid := "running", fmt.Sprint(p.PID)
		if !p.Running {
			state, pid = "ended", "-"
			down++
		}
		total += p.MemoryBytes
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f MiB\t%s\n", p.Name, state, pid, mebibytes(p.MemoryBytes), p.Log)
	}
	fmt.Fprintf(w, "\t\t\t%.1f MiB\t\n", mebibytes(total))
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "\n%s\n", apiStatus(ctx, l, spec))
	if down > 0 {
		return &Error{Code: 1, Err: fmt.Errorf("%d of %d processes have ended", down, len(all)), Next: "'ctl up' starts them again; their logs say why they ended."}
	}
	return nil
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// apiStatus is a line on what the API says.
func apiStatus(ctx context.Context, l local.Layout, spec local.Spec) string {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
	if err != nil {
		return "API: " + err.Error()
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "API: " + err.Error()
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("API at %s does not answer: %v", spec.Server(), err)
	}
	ready := 0
	for i := range nodes.Items {
		if local.NodeReady(&nodes.Items[i]) {
			ready++
		}
	}
	return fmt.Sprintf("API at %s answers; %d of %d nodes ready", spec.Server(), ready, len(nodes.Items))
}
