// Command kubelet runs the Pods of one node.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/kubelet/app"
)

func main() {
	options := app.DefaultOptions()
	os.Exit(component.Main(component.Program{
		Name:    "kubelet",
		Short:   "kubelet runs the Pods of one node.",
		Options: options,
		Run:     options.Run,
	}))
}
