//go:build linux

package nftables

import (
	"testing"

	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func TestTraced(t *testing.T) {
	backendtest.Run(t, backendtest.Tables(func(rules *ruleset.Ruleset) []*nft.Table {
		return []*nft.Table{Table(nft.IPv4, rules), Table(nft.IPv6, rules)}
	}))
}
