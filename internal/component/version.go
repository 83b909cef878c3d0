package component

import (
	"fmt"
	"runtime"

	"k8s.io/apimachinery/pkg/version"
)

// Version is the API version spoken, in upstream's form; tools that compare
// versions read this. The build metadata after + says whose software it is.
const (
	Version      = "v1.37.2+skeg"
	versionMajor = "1"
	versionMinor = "37"
)

// Build identifies the source of this binary; set with
// -ldflags "-X github.com/skeg-dev/skeg/internal/component.Build=...".
var Build = "unknown"

// VersionInfo is what /version, --version and kubernetes_build_info show.
func VersionInfo() version.Info {
	return version.Info{
		Major:        versionMajor,
		Minor:        versionMinor,
		GitVersion:   Version,
		GitCommit:    Build,
		GitTreeState: "clean",
		BuildDate:    "1970-01-01T00:00:00Z", // builds are reproducible: no clock goes in
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH),
	}
}

// UserAgent is how a component names itself to the API server, e.g.
// "skeg-scheduler/v1.37.2+skeg (linux/amd64)".
func UserAgent(name string) string {
	return fmt.Sprintf("skeg-%s/%s (%s/%s)", name, Version, runtime.GOOS, runtime.GOARCH)
}
