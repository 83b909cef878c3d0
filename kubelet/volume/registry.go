//go:build linux

package volume

// drivers lists all types of volumes for New; the first that matches serves.
func drivers(config Config) []Driver {
	content := &source{config: config}
	return []Driver{
		newEmptyDir(),
		newHostPath(),
		newConfigMap(content),
		newSecret(content),
		newDownwardAPI(content),
		newProjected(content, newTokens(config)),
	}
}
