package command

import "github.com/spf13/cobra"

// Registry lists our own commands in the order of the help text.
func Registry(env Env) []*cobra.Command {
	return []*cobra.Command{
		newUp(env),
		newStatus(env),
		newStop(env),
		newDown(env),
		newToken(env),
		newImage(env),
		newVersion(env),
	}
}
