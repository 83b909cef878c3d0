package command

import (
	"github.com/spf13/cobra"

	"github.com/skeg-dev/skeg/ctl/local"
	"github.com/skeg-dev/skeg/ctl/progress"
)

func newStop(env Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the cluster on this machine and keep its data",
		Long: `Stop the cluster that 'ctl up' made, as if its machines were switched off:
components and containers end, data, images and certificates stay. 'ctl up'
continues it.`,
		Args: noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			l := local.Layout{Dir: dir}
			if _, err := local.Load(l); err != nil {
				return err
			}
			return progress.New(env.Out, false).Step("stop the cluster", func() (string, error) {
				return "data stays in " + l.Dir, local.Stop(cmd.Context(), l)
			})
		}),
	}
	stateDirFlag(cmd.Flags(), &dir)
	return cmd
}
