package ruleset

import "slices"

// Equal reports whether two frontends are the same in everything.
func Equal(a, b *Frontend) bool {
	return a.Service == b.Service && a.Address == b.Address && a.NodePort == b.NodePort && a.Six == b.Six &&
		a.Protocol == b.Protocol && a.Port == b.Port && a.Empty == b.Empty && a.Masquerade == b.Masquerade &&
		a.Affinity == b.Affinity && (a.Insiders == nil) == (b.Insiders == nil) &&
		same(a.Endpoints, b.Endpoints) && same(a.Insiders, b.Insiders) && same(a.Sources, b.Sources)
}

// same compares lists, at once when they are the same memory: what did not
// change is shared by successive Rulesets.
func same[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b)
}

// Diff lists the frontends that are only in old and those that are only in
// next; a changed one is in both. Both have to be sorted, as in a Ruleset.
func Diff(old, next []Frontend) (gone, added []Frontend) {
	i, k := 0, 0
	for i < len(old) && k < len(next) {
		switch c := compareFrontends(&old[i], &next[k]); {
		case c < 0:
			gone = append(gone, old[i])
			i++
		case c > 0:
			added = append(added, next[k])
			k++
		default:
			if !Equal(&old[i], &next[k]) {
				gone, added = append(gone, old[i]), append(added, next[k])
			}
			i++
			k++
		}
	}
	return append(gone, old[i:]...), append(added, next[k:]...)
}

// Splice returns frontends with those of each given Service
// ("<namespace>/<name>") replaced by its new ones. frontends is sorted, and
// not changed. The cost is that of copying it once.
func Splice(frontends []Frontend, services map[string]Service) []Frontend {
	type cut struct{ from, to int }
	var cuts []cut
	var added []Frontend
	for key, s := range services {
		if from, to := span(frontends, key); from < to {
			cuts = append(cuts, cut{from, to})
		}
		added = append(added, s.Frontends...)
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.from - b.from })
	slices.SortStableFunc(added, func(a, b Frontend) int { return compareFrontends(&a, &b) })
	out := make([]Frontend, 0, len(frontends)+len(added))
	at := 0
	keep := func(to int) { // frontends[at:to], with the added ones between
		for len(added) > 0 && at < to {
			n, _ := slices.BinarySearchFunc(frontends[at:to], added[0], func(a, b Frontend) int { return compareFrontends(&a, &b) })
			out = append(out, frontends[at:at+n]...)
			at += n
			if at == to {
				return
			}
			out = append(out, added[0])
			added = added[1:]
		}
		out = append(out, frontends[at:to]...)
		at = to
	}
	for _, c := range cuts {
		keep(c.from)
		at = c.to
	}
	keep(len(frontends))
	return append(out, added...)
}

// span finds a Service's frontends, which stand side by side.
func span(frontends []Frontend, service string) (from, to int) {
	prefix := service + ":"
	end := service + ";" // the byte after the colon
	find := func(text string) int {
		i, _ := slices.BinarySearchFunc(frontends, text, func(f Frontend, text string) int {
			if f.Service < text {
				return -1
			}
			return 1
		})
		return i
	}
	return find(prefix), find(end)
}
