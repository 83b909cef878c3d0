package containertest

import (
	"testing"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func TestFake(t *testing.T) {
	t.Parallel()
	Suite(t, func(*testing.T) Fixture {
		fake := NewFake()
		return Fixture{
			Runtime: fake,
			Sandbox: func(_ *testing.T, spec container.SandboxSpec) container.SandboxSpec { return spec },
			Reopen:  func(*testing.T) container.Runtime { return fake },
		}
	})
}
