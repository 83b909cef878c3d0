package lifecycle

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// Mounting sets up a Pod's volumes, keeps their content current and takes
// them down.
type Mounting struct {
	Volumes Volumes
}

// Name is "volumes".
func (*Mounting) Name() string { return "volumes" }

// Prepare sets all volumes up.
func (m *Mounting) Prepare(ctx context.Context, pod *Pod) error {
	if err := m.Volumes.Setup(ctx, pod.API); err != nil {
		return &Failure{Reason: "FailedMount", Message: err.Error(), Err: fmt.Errorf("set up volumes: %w", err)}
	}
	return nil
}

// Update refreshes what follows the Pod's object (downwardAPI).
func (m *Mounting) Update(ctx context.Context, pod *Pod) error {
	return m.Volumes.Refresh(ctx, pod.API)
}

// Cleanup tears them down.
func (m *Mounting) Cleanup(ctx context.Context, uid types.UID) error {
	return m.Volumes.Teardown(ctx, uid)
}
