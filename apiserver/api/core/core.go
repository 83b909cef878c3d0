// Package core has the kinds of the legacy group, core/v1: one file per kind,
// and <kind>_<noun>.go beside it where a kind is large. Listed in
// apiserver/api/registry.go; calls podspec for everything about Pod
// specifications. Pure; starts no goroutines.
package core
