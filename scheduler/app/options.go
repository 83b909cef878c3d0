package app

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/skeg-dev/skeg/internal/component"
)

// DefaultSchedulerName is the spec.schedulerName of Pods that name none.
const DefaultSchedulerName = "default-scheduler"

// Options are the scheduler's settings. Use DefaultOptions.
type Options struct {
	// Kubeconfig says where the API server is and who we are; required.
	Kubeconfig string
	// Master overrides the kubeconfig's server.
	Master string
	// QPS and Burst limit the requests to the API server.
	QPS   float32
	Burst int
	// Serving and Delegation are those of the HTTPS listener.
	Serving    component.ServingOptions
	Delegation component.DelegationOptions
	// Leader holds the leader election flags.
	Leader component.LeaderOptions
	// SchedulerName selects Pods by spec.schedulerName.
	SchedulerName string
	// PercentageOfNodes to find feasible before scoring; 0 adapts to the
	// cluster's size.
	PercentageOfNodes int
}

// DefaultOptions are upstream's, but for the client's limits: bindings are
// what the scheduler is for, and the server limits fairly.
func DefaultOptions() *Options {
	return &Options{
		QPS: 1000, Burst: 2000,
		Serving:       component.ServingOptions{BindAddress: "0.0.0.0", Port: 10259},
		Delegation:    component.DefaultDelegationOptions(),
		Leader:        component.DefaultLeaderOptions("kube-scheduler"),
		SchedulerName: DefaultSchedulerName,
	}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "File with the API server's address and our credentials")
	fs.StringVar(&o.Master, "master", o.Master, "Address of the API server, instead of the kubeconfig's")
	fs.Float32Var(&o.QPS, "kube-api-qps", o.QPS, "Requests per second to the API server")
	fs.IntVar(&o.Burst, "kube-api-burst", o.Burst, "Requests at once to the API server")
	fs.StringVar(&o.SchedulerName, "scheduler-name", o.SchedulerName, "The spec.schedulerName of the Pods to schedule")
	fs.IntVar(&o.PercentageOfNodes, "percentage-of-nodes-to-score", o.PercentageOfNodes, "Share of the nodes that is enough to choose from; 0 adapts to their number")
	o.Serving.AddFlags(fs)
	o.Delegation.AddFlags(fs)
	o.Leader.AddFlags(fs)
}

// Validate returns all faults, each naming its flag.
func (o *Options) Validate() []error {
	errs := append(o.Serving.Validate(), o.Leader.Validate()...)
	if o.Kubeconfig == "" && o.Master == "" {
		errs = append(errs, fmt.Errorf("--kubeconfig: required"))
	}
	if o.SchedulerName == "" {
		errs = append(errs, fmt.Errorf("--scheduler-name: must not be empty"))
	}
	if o.PercentageOfNodes < 0 || o.PercentageOfNodes > 100 {
		errs = append(errs, fmt.Errorf("--percentage-of-nodes-to-score: must be from 0 to 100, not %d", o.PercentageOfNodes))
	}
	return errs
}
