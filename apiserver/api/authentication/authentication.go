// Package authentication has the kinds of authentication.k8s.io/v1: one file
// per kind. They are posted and answered, never stored; a connector answers.
// Listed in apiserver/api/registry.go. Pure; starts no goroutines.
package authentication
