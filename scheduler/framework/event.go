package framework

// Kind is the kind of object that changed.
type Kind string

// The kinds whose changes may wake a Pod.
const (
	AnyKind       Kind = "*"
	NodeKind      Kind = "Node"
	AssignedPod   Kind = "AssignedPod"
	WaitingPod    Kind = "UnscheduledPod"
	ClaimKind     Kind = "PersistentVolumeClaim"
	VolumeKind    Kind = "PersistentVolume"
	ClassKind     Kind = "StorageClass"
	CSINodeKind   Kind = "CSINode"
	NamespaceKind Kind = "Namespace"
)

// Action is a set of changes.
type Action uint16

// The changes.
const (
	Add Action = 1 << iota
	Delete
	UpdateAllocatable
	UpdateLabel
	UpdateTaint
	UpdateCondition
	UpdateSpec
	ScaleDown // a Pod's requests shrank
	Update    = UpdateAllocatable | UpdateLabel | UpdateTaint | UpdateCondition | UpdateSpec | ScaleDown
	Any       = Add | Delete | Update
)

// ClusterEvent is a set of changes of one kind.
type ClusterEvent struct {
	Kind   Kind
	Action Action
	// Label names it in metrics and logs ("NodeAdd"); may be "".
	Label string
}

// Matches reports whether the observed event o is among those e stands for.
func (e ClusterEvent) Matches(o ClusterEvent) bool {
	return (e.Kind == AnyKind || o.Kind == AnyKind || e.Kind == o.Kind) && e.Action&o.Action != 0
}
