package api

import (
	"github.com/skeg-dev/skeg/apiserver/api/apps"
	"github.com/skeg-dev/skeg/apiserver/api/authentication"
	"github.com/skeg-dev/skeg/apiserver/api/authorization"
	"github.com/skeg-dev/skeg/apiserver/api/autoscaling"
	"github.com/skeg-dev/skeg/apiserver/api/batch"
	"github.com/skeg-dev/skeg/apiserver/api/certificates"
	"github.com/skeg-dev/skeg/apiserver/api/coordination"
	"github.com/skeg-dev/skeg/apiserver/api/core"
	"github.com/skeg-dev/skeg/apiserver/api/discovery"
	"github.com/skeg-dev/skeg/apiserver/api/events"
	"github.com/skeg-dev/skeg/apiserver/api/flowcontrol"
	"github.com/skeg-dev/skeg/apiserver/api/networking"
	"github.com/skeg-dev/skeg/apiserver/api/node"
	"github.com/skeg-dev/skeg/apiserver/api/policy"
	"github.com/skeg-dev/skeg/apiserver/api/rbac"
	"github.com/skeg-dev/skeg/apiserver/api/scheduling"
	"github.com/skeg-dev/skeg/apiserver/api/storage"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Registry returns a Definition of every kind, in the order in which discovery
// lists groups.
func Registry() []*resource.Definition {
	return []*resource.Definition{
		core.Binding(),
		core.ConfigMap(),
		core.Endpoints(),
		core.Event(),
		core.LimitRange(),
		core.Namespace(),
		core.Node(),
		core.PersistentVolumeClaim(),
		core.PersistentVolume(),
		core.Pod(),
		core.PodTemplate(),
		core.ReplicationController(),
		core.ResourceQuota(),
		core.Secret(),
		core.ServiceAccount(),
		core.Service(),

		apps.ControllerRevision(),
		apps.DaemonSet(),
		apps.Deployment(),
		apps.ReplicaSet(),
		apps.StatefulSet(),

		events.Event(),

		authentication.SelfSubjectReview(),
		authentication.TokenReview(),

		authorization.LocalSubjectAccessReview(),
		authorization.SelfSubjectAccessReview(),
		authorization.SelfSubjectRulesReview(),
		authorization.SubjectAccessReview(),

		autoscaling.HorizontalPodAutoscaler(),

		batch.CronJob(),
		batch.Job(),

		certificates.CertificateSigningRequest(),

		networking.IngressClass(),
		networking.Ingress(),
		networking.IPAddress(),
		networking.NetworkPolicy(),
		networking.ServiceCIDR(),

		policy.PodDisruptionBudget(),

		rbac.ClusterRoleBinding(),
		rbac.ClusterRole(),
		rbac.RoleBinding(),
		rbac.Role(),

		storage.CSIDriver(),
		storage.CSINode(),
		storage.CSIStorageCapacity(),
		storage.StorageClass(),
		storage.VolumeAttachment(),

		scheduling.PriorityClass(),

		coordination.Lease(),

		node.RuntimeClass(),

		discovery.EndpointSlice(),

		flowcontrol.FlowSchema(),
		flowcontrol.PriorityLevelConfiguration(),
	}
}
