package command

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/skeg-dev/skeg/ctl/local"
	"github.com/skeg-dev/skeg/ctl/progress"
)

func newDown(env Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove the cluster on this machine, with its data",
		Long: `Remove the cluster that 'ctl up' made: processes, containers, namespaces,
links, mounts, cgroups, firewall rules, and all its files.`,
		Args: noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			l := local.Layout{Dir: dir}
			if _, err := os.Stat(l.Dir); errors.Is(err, fs.ErrNotExist) {
				progress.New(env.Out, false).Say("nothing to remove in %s", l.Dir)
				return nil
			}
			return progress.New(env.Out, false).Step("remove the cluster", func() (string, error) {
				return l.Dir, local.Remove(cmd.Context(), l)
			})
		}),
	}
	stateDirFlag(cmd.Flags(), &dir)
	return cmd
}
