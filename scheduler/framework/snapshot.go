package framework

// Snapshot is the cluster at one moment: what every phase of an attempt reads.
// It is updated in place between attempts, never during one.
type Snapshot struct {
	// Nodes in a stable order that alternates between zones; all have a Node.
	Nodes []*NodeInfo
	// ByName finds a node.
	ByName map[string]*NodeInfo
	// WithAffinity and WithRequiredAntiAffinity are the nodes that have such Pods.
	WithAffinity, WithRequiredAntiAffinity []*NodeInfo

	groups groups
}

// NewSnapshot makes one from nodes, mainly for tests.
func NewSnapshot(nodes ...*NodeInfo) *Snapshot {
	s := &Snapshot{Nodes: nodes, ByName: make(map[string]*NodeInfo, len(nodes))}
	for _, n := range nodes {
		s.ByName[n.Name()] = n
		s.Reindex(nil, n)
	}
	s.Classify()
	return s
}

// Classify fills the lists of nodes with affinity Pods.
func (s *Snapshot) Classify() {
	s.WithAffinity, s.WithRequiredAntiAffinity = s.WithAffinity[:0], s.WithRequiredAntiAffinity[:0]
	for _, n := range s.Nodes {
		if len(n.WithAffinity) > 0 {
			s.WithAffinity = append(s.WithAffinity, n)
		}
		if len(n.WithRequiredAntiAffinity) > 0 {
			s.WithRequiredAntiAffinity = append(s.WithRequiredAntiAffinity, n)
		}
	}
}
