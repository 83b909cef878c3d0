// Command scheduler finds a node for every Pod that has none.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/scheduler/app"
)

func main() {
	options := app.DefaultOptions()
	os.Exit(component.Main(component.Program{
		Name:    "scheduler",
		Short:   "scheduler finds a node for every Pod that has none.",
		Options: options,
		Run:     options.Run,
	}))
}
