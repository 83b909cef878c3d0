// Package policy has the kinds of policy/v1: one file per kind. (Eviction is
// the body of pods/eviction and has no resource of its own.) Listed in
// apiserver/api/registry.go. Pure; starts no goroutines.
package policy
