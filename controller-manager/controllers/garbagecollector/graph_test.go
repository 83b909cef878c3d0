package garbagecollector

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func object(uid string, owners ...metav1.OwnerReference) node {
	return node{uid: types.UID(uid), name: uid, namespace: "default", owners: owners}
}

func owner(uid string, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{UID: types.UID(uid), Name: uid, Kind: "K", APIVersion: "v1", BlockOwnerDeletion: ptr.To(blocks)}
}

func TestGraphSaysWhatToLookAt(t *testing.T) {
	t.Parallel()
	g := newGraph()
	check := func(what string, got []types.UID, want ...types.UID) {
		t.Helper()
		slices.Sort(got)
		got = slices.Compact(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: look at %v, want %v", what, got, want)
		}
	}
	check("an owner", g.put(object("a")))
	check("its dependent", g.put(object("b", owner("a", true))), "b")
	check("the same again", g.put(object("b", owner("a", true))))
	check("one whose owner is not known", g.put(object("d", owner("nobody", false))), "d")

	a := object("a")
	a.deleting, a.foreground = true, true
	check("foreground deletion", g.put(a), "a", "b")
	check("a dependent that lets go", g.put(object("b", owner("a", false))), "a", "b")
	check("a dependent that goes", g.remove("b"), "a")

	check("dependent of two", g.put(object("e", owner("a", false), owner("d", false))), "e")
	check("an owner that goes", g.remove("d"), "e")
	if all := g.dependentsOf("a"); len(all) != 1 || all[0].uid != "e" {
		t.Errorf("dependents of a: %v", all)
	}
	check("an object never seen", g.remove("x"))

	orphaning := object("f")
	g.put(orphaning)
	orphaning.deleting, orphaning.orphan = true, true
	check("orphaning", g.put(orphaning), "f")
	check("orphaning, seen again", g.put(orphaning))
}
