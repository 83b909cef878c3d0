package store

import "strings"

// Ascend visits items in key order from the first key that is not less than
// from, until visit returns false.
type Ascend func(from string, visit func(*Item) bool)

// PageOf answers q from an ordered snapshot read at revision: what the
// implementations that keep items in memory share.
func PageOf(q Query, revision int64, ascend Ascend) *Page {
	page := &Page{Revision: revision}
	from := q.Prefix
	if q.After != "" && q.After >= from {
		from = q.After + "\x00" // the first key after it
	}
	prefixed := q.Prefix == "" || strings.HasSuffix(q.Prefix, "/")
	ascend(from, func(item *Item) bool {
		if !InScope(item.Key, q.Prefix) {
			return false // keys of a scope are adjacent
		}
		if q.Match != nil && !q.Match(item.Object) {
			return prefixed
		}
		if q.Limit > 0 && len(page.Items) == q.Limit {
			page.More = true
			page.Remaining++
			// With Match the rest would all have to be tried to be counted.
			return q.Match == nil
		}
		page.Items = append(page.Items, item)
		return prefixed
	})
	if page.More && q.Match != nil {
		page.Remaining = -1
	}
	return page
}
