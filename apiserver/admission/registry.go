package admission

// Config is what the plugins need from outside.
type Config struct {
	// Reader reads stored objects; required.
	Reader Reader
}

// Registry returns the plugins in the order in which they run. The order is
// upstream's: whether the namespace exists is asked first, what fills a Pod in
// comes before what counts it.
func Registry(c Config) []Plugin {
	return []Plugin{
		NewNamespaceLifecycle(c.Reader),
		NewServiceAccount(c.Reader),
		NewNodeRestriction(c.Reader),
		NewPriority(c.Reader),
		NewDefaultTolerationSeconds(),
		NewCertificateRequest(),
	}
}
