// Package flowcontrol defines the kinds of flowcontrol.apiserver.k8s.io/v1.
// Called through api/registry.go; pure.
package flowcontrol
