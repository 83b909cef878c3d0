//go:build linux

package volume

// drivers lists all types of volumes; the first that matches serves.
func drivers(config Config) []Driver {
	content := &source{config: config}
	return []Driver{
		&emptyDir{},
		&hostPath{},
		&configMap{source: content},
		&secret{source: content},
		&downwardAPI{source: content},
		&projected{source: content, tokens: newTokens(config)},
	}
}
