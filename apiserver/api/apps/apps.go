// Package apps has the kinds of apps/v1: one file per kind, and
// <kind>_<noun>.go beside it where a kind is large. Listed in
// apiserver/api/registry.go; calls podspec for templates. Pure; starts no
// goroutines.
package apps
