package shimclient

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/container"
)

func benchClient(b *testing.B) (*Client, container.SandboxSpec) {
	b.Helper()
	c, err := New(Config{Root: b.TempDir(), ShimPath: shimPath, Cgroups: tree})
	if err != nil {
		b.Fatal(err)
	}
	spec := container.SandboxSpec{Pod: types.UID("uid-bench"), Hostname: "bench", CgroupParent: tree.Pod("uid-bench", cgroup.Burstable)}
	if err := tree.Ensure(spec.CgroupParent, container.Resources{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx := context.Background()
		if err := c.RemoveSandbox(ctx, spec.Pod); err != nil {
			b.Error(err)
		}
		if err := tree.Remove(ctx, spec.CgroupParent); err != nil {
			b.Error(err)
		}
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c, spec
}

func BenchmarkSandbox(b *testing.B) {
	c, spec := benchClient(b)
	for b.Loop() {
		if err := c.EnsureSandbox(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
		if err := c.RemoveSandbox(b.Context(), spec.Pod); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContainer(b *testing.B) {
	for _, profile := range []string{"unconfined", "runtime/default"} {
		b.Run(profile, func(b *testing.B) {
			c, sandbox := benchClient(b)
			if err := c.EnsureSandbox(b.Context(), sandbox); err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				n++
				spec := container.Spec{
					ID: container.ID{Pod: sandbox.Pod, Name: fmt.Sprintf("c%d", n)}, Rootfs: rootfs, Args: []string{"/bin/sleep", "1000"},
					Security: container.Security{Capabilities: container.DefaultCapabilities(), SeccompProfile: profile},
				}
				if err := c.Create(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
				if err := c.Start(b.Context(), spec.ID); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := c.Remove(b.Context(), spec.ID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func BenchmarkExec(b *testing.B) {
	c, sandbox := benchClient(b)
	if err := c.EnsureSandbox(b.Context(), sandbox); err != nil {
		b.Fatal(err)
	}
	spec := container.Spec{ID: container.ID{Pod: sandbox.Pod, Name: "main"}, Rootfs: rootfs, Args: []string{"/bin/sleep", "1000"}}
	if err := c.Create(b.Context(), spec); err != nil {
		b.Fatal(err)
	}
	if err := c.Start(b.Context(), spec.ID); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if code, err := c.Exec(b.Context(), spec.ID, container.ExecSpec{Args: []string{"/bin/true"}}); err != nil || code != 0 {
			b.Fatal(code, err)
		}
	}
}
