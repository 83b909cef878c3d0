//go:build linux

package app

import (
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/backend/ipvs"
	"github.com/skeg-dev/skeg/proxy/backend/nftables"
)

// backends lists the proxy modes; auto is the first that the kernel can do.
func backends() []backend.Backend {
	return []backend.Backend{
		nftables.New(""),
		ipvs.New(""),
	}
}
