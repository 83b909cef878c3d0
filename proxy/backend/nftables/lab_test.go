//go:build linux

package nftables

import (
	"testing"

	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
)

func TestSent(t *testing.T) {
	lab := backendtest.NewLab(t)
	backendtest.Run(t, lab.Kernel(New(lab.Node)))
}
