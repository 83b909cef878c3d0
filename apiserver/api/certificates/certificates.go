// Package certificates has the kinds of certificates.k8s.io/v1: one file per
// kind. Listed in apiserver/api/registry.go. Who asks (spec.username and so
// on) is filled in by a hook that knows the request's user; signing is a
// controller's work. Pure; starts no goroutines.
package certificates
