// Package autoscaling defines the kinds of autoscaling/v2. Called through
// api/registry.go; pure.
package autoscaling
