package framework

import "k8s.io/apimachinery/pkg/util/sets"

// StateData is what a plugin keeps during an attempt. Clone is called when
// preemption tries variants; data that is never changed may return itself.
type StateData interface{ Clone() StateData }

// CycleState carries the plugins' data through one attempt for one Pod. The
// zero value is empty and ready. Not safe for concurrent writes.
type CycleState struct {
	data map[string]StateData
	// Snapshot is what the attempt reads; set by Runner.PreFilter.
	Snapshot *Snapshot
	// SkipFilter and SkipScore name plugins that had nothing to say.
	SkipFilter, SkipScore sets.Set[string]

	filters []FilterPlugin // those not skipped
}

// Write keeps data under key, by convention the plugin's name and phase.
func (c *CycleState) Write(key string, data StateData) {
	if c.data == nil {
		c.data = map[string]StateData{}
	}
	c.data[key] = data
}

// Read returns the data under key; ok is false when there is none.
func (c *CycleState) Read(key string) (data StateData, ok bool) {
	data, ok = c.data[key]
	return data, ok
}

// Clone copies the state and all data in it.
func (c *CycleState) Clone() *CycleState {
	dup := &CycleState{Snapshot: c.Snapshot, filters: c.filters, SkipFilter: c.SkipFilter, SkipScore: c.SkipScore, data: make(map[string]StateData, len(c.data))}
	for k, v := range c.data {
		dup.data[k] = v.Clone()
	}
	return dup
}

// ReadState is Read with the type asserted.
func ReadState[T StateData](c *CycleState, key string) (T, bool) {
	data, ok := c.data[key].(T)
	return data, ok
}
