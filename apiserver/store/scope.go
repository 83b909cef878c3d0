package store

import "strings"

// InScope reports whether key is selected by a Query's Prefix: "" selects
// everything, what ends in "/" the keys below it, anything else the one key.
func InScope(key, prefix string) bool {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return strings.HasPrefix(key, prefix)
	}
	return key == prefix
}
