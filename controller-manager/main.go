// Command controller-manager runs the control loops of a cluster.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/controller-manager/app"
	"github.com/skeg-dev/skeg/internal/component"
)

func main() {
	options := app.DefaultOptions()
	os.Exit(component.Main(component.Program{
		Name:    "controller-manager",
		Short:   "controller-manager runs the control loops that make the cluster what its objects say it should be.",
		Options: options,
		Run:     options.Run,
	}))
}
