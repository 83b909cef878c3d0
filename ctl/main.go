// Command ctl drives a cluster from the command line: every verb of kubectl,
// and commands of its own that make, inspect and remove a cluster on this
// machine.
package main

import (
	"os"

	"github.com/skeg-dev/skeg/ctl/app"
)

func main() {
	os.Exit(app.Run(os.Args))
}
