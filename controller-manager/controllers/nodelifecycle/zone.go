package nodelifecycle

import (
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
)

// zoneState is how much of a zone is lost.
type zoneState int

const (
	zoneNormal  zoneState = iota
	zonePartial           // many nodes, at least three
	zoneFull              // all nodes
)

// zones hold the state and the eviction rate of every zone.
type zones struct {
	config   Config
	limiters map[string]*rate.Limiter
	// allLost says that every zone is fully lost: then it is more likely that
	// this process is cut off than that all nodes are.
	allLost bool
}

func newZones(config Config) *zones {
	return &zones{config: config, limiters: map[string]*rate.Limiter{}}
}

// zoneOf is the topology zone of a node: region and zone.
func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "/" + node.Labels[corev1.LabelTopologyZone]
}

// update recomputes all states. recovered is true when not all zones are lost
// any more, but were at the last look.
func (z *zones) update(nodes []*corev1.Node) (recovered bool) {
	ready, total := map[string]int{}, map[string]int{}
	for _, n := range nodes {
		total[zoneOf(n)]++
		if isReady(n) {
			ready[zoneOf(n)]++
		}
	}
	before := z.allLost
	z.allLost = len(total) > 0
	for zone, n := range total {
		state := judgeZone(ready[zone], n-ready[zone], z.config.UnhealthyShare)
		if state != zoneFull {
			z.allLost = false
		}
		limit := rate.Limit(z.config.EvictionRate)
		if state == zonePartial {
			limit = 0
			if n > z.config.LargeZone {
				limit = rate.Limit(z.config.SecondaryRate)
			}
		}
		if z.limiters[zone] == nil {
			z.limiters[zone] = rate.NewLimiter(limit, 1)
		} else if z.limiters[zone].Limit() != limit {
			z.limiters[zone].SetLimit(limit)
		}
	}
	for zone := range z.limiters {
		if total[zone] == 0 {
			delete(z.limiters, zone)
		}
	}
	return before && !z.allLost
}

func judgeZone(ready, lost int, unhealthyShare float64) zoneState {
	switch {
	case ready == 0 && lost > 0:
		return zoneFull
	case lost > 2 && float64(lost)/float64(lost+ready) >= unhealthyShare:
		return zonePartial
	}
	return zoneNormal
}

// allow reports whether one more node of the zone may be given up now.
func (z *zones) allow(zone string) bool {
	limiter := z.limiters[zone]
	return limiter != nil && limiter.Limit() > 0 && limiter.Allow()
}
