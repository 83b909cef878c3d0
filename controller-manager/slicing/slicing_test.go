package slicing_test

import (
	"fmt"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/skeg-dev/skeg/controller-manager/slicing"
)

func group(ids []int, ready bool) slicing.Group {
	g := slicing.Group{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr.To("p"), Port: ptr.To[int32](80)}}}
	for _, id := range ids {
		g.Endpoints = append(g.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.0.%d.%d", id/250, id%250)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return g
}

// apply plays an API server for one change.
func apply(existing []*discoveryv1.EndpointSlice, change slicing.Change, serial *int) []*discoveryv1.EndpointSlice {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range existing {
		byName[s.Name] = s
	}
	for _, s := range change.Create {
		*serial++
		s.Name = fmt.Sprintf("s-%d", *serial)
		byName[s.Name] = s
	}
	for _, s := range change.Update {
		byName[s.Name] = s
	}
	for _, s := range change.Delete {
		delete(byName, s.Name)
	}
	var all []*discoveryv1.EndpointSlice
	for i := range *serial + 1 {
		if s := byName[fmt.Sprintf("s-%d", i)]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Whatever comes and goes, every endpoint is in exactly one slice, no slice
// has too many, and the same wish twice changes nothing.
func TestDiffKeepsEveryEndpointOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var existing []*discoveryv1.EndpointSlice
		serial := 0
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			ids := rapid.SliceOfNDistinct(rapid.IntRange(0, 60), 0, 40, rapid.ID[int]).Draw(t, "ids")
			wanted := slicing.Wanted{
				Meta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Max: 7,
				Groups:       []slicing.Group{group(ids, rapid.Bool().Draw(t, "ready"))},
				Placeholders: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4},
			}
			existing = apply(existing, slicing.Diff(existing, wanted), &serial)
			seen := map[string]int{}
			for _, s := range existing {
				if len(s.Endpoints) > 7 {
					t.Fatalf("slice with %d endpoints", len(s.Endpoints))
				}
				for _, e := range s.Endpoints {
					seen[e.Addresses[0]]++
				}
			}
			if len(seen) != len(ids) {
				t.Fatalf("%d endpoints for %d", len(seen), len(ids))
			}
			for address, n := range seen {
				if n != 1 {
					t.Fatalf("%s is there %d times", address, n)
				}
			}
			if len(existing) == 0 {
				t.Fatal("no slice at all, not even a placeholder")
			}
			again := slicing.Diff(existing, wanted)
			if len(again.Create)+len(again.Update)+len(again.Delete) > 0 {
				t.Fatalf("the same wish changes something: %+v", again)
			}
		}
	})
}
