//go:build linux

package backendtest

import (
	"bufio"
	"testing"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Subject is what Contract tests.
type Subject struct {
	// New makes a backend for the network namespace at the path, as a new
	// process would.
	New func(netns string) backend.Backend
	// Dump lists all that the backend has in the kernel there, "" when there
	// is nothing. What is replaced by its like has to look different.
	Dump func(t testing.TB, netns string) string
	// Foreign makes something of the backend's kind that is another
	// program's, and returns a check that it is still there.
	Foreign func(t testing.TB, netns string) (check func(t testing.TB))
}

// Contract tests what a backend promises beyond the way of packets.
func Contract(t *testing.T, s Subject) {
	lab := NewLab(t)
	one := Rules(ClusterIP("10.79.0.1", Endpoint(1)), ClusterIP("fd79::1", Endpoint6(1)), NodePort(30080, endpoints(1, 2)...))
	other := Rules(ClusterIP("10.79.0.1", Endpoint(2)), External("10.80.0.1", Endpoint(3)))
	reaches := func(t *testing.T, want int) {
		t.Helper()
		p := tcp(Client, "10.79.0.1:80", Want{}).Packet
		if got := lab.Send(t, p, testkit.Patience); got.Verdict != Reached || got.Endpoint != Endpoint(want) {
			t.Errorf("%s: %s %s, want endpoint %d", p.To, got.Verdict, got.Endpoint, want)
		}
	}
	sync := func(t *testing.T, b backend.Backend, rules *ruleset.Ruleset) {
		t.Helper()
		if err := b.Sync(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	foreign := s.Foreign(t, lab.Node)
	t.Run("the same rules twice change nothing", func(t *testing.T) {
		b := s.New(lab.Node)
		sync(t, b, one)
		before := s.Dump(t, lab.Node)
		sync(t, b, one)
		sync(t, b, Rules(one.Frontends...))
		if after := s.Dump(t, lab.Node); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
	})
	t.Run("a new process takes over", func(t *testing.T) {
		reaches(t, 1) // what the last one left is at work
		sync(t, s.New(lab.Node), other)
		reaches(t, 2)
		p := tcp(Client, "10.77.0.1:30080", Want{}).Packet
		if got := lab.Send(t, p, testkit.Patience); got.Verdict != Rejected {
			t.Errorf("a node port of the last process: %s", got.Verdict)
		}
	})
	t.Run("a connection outlives its rules", func(t *testing.T) {
		b := s.New(lab.Node)
		sync(t, b, one)
		c, err := lab.Connect(tcp(Client, "10.79.0.1:80", Want{}).Packet, testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		lines := bufio.NewReader(c)
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(){
			func() { sync(t, b, other) },
			func() { b.Forget(); sync(t, b, one) },
			func() { sync(t, s.New(lab.Node), other) },
		} {
			step()
			if _, err := c.Write([]byte("still here\n")); err != nil {
				t.Fatal(err)
			}
			if line, err := lines.ReadString('\n'); err != nil || line != "still here\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
	t.Run("every change arrives", func(t *testing.T) {
		b := s.New(lab.Node)
		for _, n := range []int{1, 2, 3, 1} {
			sync(t, b, Rules(ClusterIP("10.79.0.1", Endpoint(n)), ClusterIP("10.79.0.2", endpoints(1, 2, 3)[:n]...)))
			reaches(t, n)
		}
	})
	t.Run("what a stranger broke is repaired", func(t *testing.T) {
		b := s.New(lab.Node)
		sync(t, b, one)
		if err := s.New(lab.Node).Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Forget()
		sync(t, b, one)
		reaches(t, 1)
	})
	t.Run("cleanup leaves nothing", func(t *testing.T) {
		for range 2 {
			if err := s.New(lab.Node).Cleanup(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if left := s.Dump(t, lab.Node); left != "" {
			t.Errorf("left:\n%s", left)
		}
		foreign(t)
	})
}
