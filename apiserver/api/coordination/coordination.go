// Package coordination has the kinds of coordination.k8s.io/v1: one file per
// kind. Listed in apiserver/api/registry.go. Pure; starts no goroutines.
package coordination
