// Command proxy makes Services reachable on a node, and answers DNS for it.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/proxy/app"
)

func main() {
	options := app.DefaultOptions()
	os.Exit(component.Main(component.Program{
		Name:    "proxy",
		Short:   "proxy makes Services reachable on a node, and answers DNS for it.",
		Options: options,
		Run:     options.Run,
	}))
}
