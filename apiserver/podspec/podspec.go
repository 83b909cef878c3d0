// Package podspec defaults and validates Pod specifications: the one inside a
// Pod, and the templates inside Deployments, Jobs and the like. It follows
// the API reference of core/v1 field by field. Called by apiserver/api/*;
// calls apimachinery's validation only. Pure; starts no goroutines.
package podspec
