package lifecycle

// Parts are the hooks, built by app/. All are required.
type Parts struct {
	Admit      *Admit
	Dirs       *Dirs
	Cgroup     *Cgroup
	Networking *Networking
	Mounting   *Mounting
	Images     *Puller
	Containers *Containers
	Probing    *Probing
}

// Registry is the order of the hooks: prepared from first to last, stopped
// and cleaned up from last to first. A hook may use what hooks before it
// filled in Pod.
func Registry(p Parts) Chain {
	return Chain{
		p.Admit,
		p.Dirs,
		p.Cgroup,
		p.Networking,
		p.Mounting,
		p.Images,
		p.Containers,
		p.Probing,
	}
}

// NewResizer makes the Resizer of the hooks it needs.
func NewResizer(p Parts) *Resizer {
	return &Resizer{Pods: p.Admit, Cgroup: p.Cgroup, Containers: p.Containers}
}
