package nodeipam

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestPool(t *testing.T) {
	t.Parallel()
	p, err := newPool(Range{netip.MustParsePrefix("10.244.0.0/16"), 24}, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/23")})
	if err != nil {
		t.Fatal(err)
	}
	p.mark(netip.MustParsePrefix("10.244.3.0/24"), true)
	for _, want := range []string{"10.244.2.0/24", "10.244.4.0/24"} {
		if got, ok := p.take(); !ok || got.String() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	v6, err := newPool(Range{netip.MustParsePrefix("fd00:10::/56"), 64}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = v6.take()
	if got, ok := v6.take(); !ok || got.String() != "fd00:10:0:1::/64" {
		t.Errorf("second IPv6 network is %v", got)
	}
	if _, err := newPool(Range{netip.MustParsePrefix("10.0.0.0/25"), 24}, nil); err == nil {
		t.Error("a network smaller than its parts is accepted")
	}
}

func TestPoolNeverGivesOverlaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := newPool(Range{netip.MustParsePrefix("10.0.0.0/20"), 24}, nil)
		if err != nil {
			t.Fatal(err)
		}
		held := map[netip.Prefix]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				got, ok := p.take()
				if ok != (len(held) < 16) {
					t.Fatalf("take with %d held: %v", len(held), ok)
				}
				if ok && held[got] {
					t.Fatalf("%v is given twice", got)
				}
				if ok {
					held[got] = true
				}
				continue
			}
			for prefix := range held {
				p.mark(prefix, false)
				delete(held, prefix)
				break
			}
		}
	})
}
