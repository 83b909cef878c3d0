// Package networking has the kinds of networking.k8s.io/v1: one file per kind.
// Listed in apiserver/api/registry.go. Pure; starts no goroutines.
package networking
