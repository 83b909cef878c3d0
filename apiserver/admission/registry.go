package admission

import "github.com/skeg-dev/skeg/apiserver/authz"

// Config is what the plugins need from outside.
type Config struct {
	// Reader reads stored objects; required.
	Reader Reader
	// Authorizer decides about rights beyond those of the request; required.
	Authorizer authz.Authorizer
}

// Registry returns the plugins in the order in which they run. The order is
// upstream's: whether the namespace exists is asked first, what fills a Pod in
// comes before what counts it.
func Registry(c Config) []Plugin {
	return []Plugin{
		NewNamespaceLifecycle(c.Reader),
		NewLimitRanger(c.Reader),
		NewServiceAccount(c.Reader),
		NewNodeRestriction(c.Reader),
		NewTaintNodesByCondition(),
		NewPodSecurity(c.Reader),
		NewPriority(c.Reader),
		NewDefaultTolerationSeconds(),
		NewDefaultStorageClass(c.Reader),
		NewRuntimeClass(c.Reader),
		NewCertificateApproval(c.Authorizer),
		NewCertificateSigning(c.Authorizer),
		NewCertificateRequest(),
		NewDefaultIngressClass(c.Reader),
	}
}
