//go:build linux

package app

import (
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/backend/nftables"
)

// backends lists the proxy modes; auto is the first.
func backends() []backend.Backend {
	return []backend.Backend{
		nftables.New(""),
	}
}
