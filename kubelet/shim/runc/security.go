package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	dockerseccomp "github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// permitted are this process's capabilities; they do not change.
var permitted = sync.OnceValues(func() (map[capability.Cap]bool, error) {
	own, err := capability.NewPid2(0)
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	if err := own.Load(); err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	set := map[capability.Cap]bool{}
	for _, c := range capability.ListKnown() {
		set[c] = own.Get(capability.PERMITTED, c)
	}
	return set, nil
})

func has(number int) (bool, error) {
	set, err := permitted()
	return set[capability.Cap(number)], err
}

// capabilitySet is the set a container has: all there are when privileged, and
// never more than this process has itself, since giving those would fail.
func capabilitySet(s container.Security) ([]string, error) {
	own, err := permitted()
	if err != nil {
		return nil, err
	}
	wanted := s.Capabilities
	caps := []string{}
	for c, have := range own {
		name := "CAP_" + strings.ToUpper(c.String())
		if have && (s.Privileged || slices.Contains(wanted, name)) {
			caps = append(caps, name)
		}
	}
	slices.Sort(caps)
	return caps, nil
}

// restrict adds the masked and read-only paths and the seccomp profile; a
// privileged container has none of them.
func restrict(spec *specs.Spec, s container.Security) error {
	if s.Privileged {
		return nil
	}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = s.MaskedPaths, s.ReadonlyPaths
	profile, err := seccompProfile(spec, s.SeccompProfile)
	if err != nil {
		return fmt.Errorf("seccomp profile %q: %w", s.SeccompProfile, err)
	}
	if profile != nil && !seccomp.Enabled {
		return fmt.Errorf("seccomp profile %q: this binary was built without seccomp", s.SeccompProfile)
	}
	spec.Linux.Seccomp = profile
	return nil
}

func seccompProfile(spec *specs.Spec, name string) (*specs.LinuxSeccomp, error) {
	path, local := strings.CutPrefix(name, "localhost/")
	switch {
	case name == "", name == "unconfined":
		return nil, nil
	case name == "runtime/default":
		return dockerseccomp.GetDefaultProfile(spec)
	case !local:
		return nil, errors.New("unknown; want unconfined, runtime/default or localhost/<path>")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// A file is either an OCI profile or one with moby's conditions; the second
	// reading accepts both, and says what is wrong with neither.
	profile, err := dockerseccomp.LoadProfile(string(b), spec)
	if err != nil {
		return nil, err
	}
	if profile == nil && json.Valid(b) {
		return nil, errors.New("it has no default action")
	}
	return profile, nil
}
