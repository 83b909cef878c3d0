// Command apiserver serves the Kubernetes API, with an etcd inside.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/apiserver/app"
	"github.com/skeg-dev/skeg/internal/component"
)

func main() {
	options := app.DefaultOptions()
	os.Exit(component.Main(component.Program{
		Name:    "apiserver",
		Short:   "apiserver serves the Kubernetes API, with an etcd inside.",
		Options: options,
		Run:     options.Run,
	}))
}
