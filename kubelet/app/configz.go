package app

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// configuration is the settings in force as a KubeletConfiguration, which
// /configz shows: what fromFile and nodeFromFile would read them from. Its
// kind and version stay empty, as upstream's do there.
func (o *Options) configuration() *kubeletv1beta1.KubeletConfiguration {
	c := &kubeletv1beta1.KubeletConfiguration{
		StaticPodPath:      o.ManifestPath,
		FileCheckFrequency: metav1.Duration{Duration: o.ManifestEvery},
		Address:            o.Address, Port: int32(o.Port), //nolint:gosec // G115: validated to be a port
		TLSCertFile: o.CertFile, TLSPrivateKeyFile: o.KeyFile,
		RotateCertificates: o.RotateCertificates, ServerTLSBootstrap: o.RotateServerCerts,
		HealthzPort: new(int32(o.HealthPort)), HealthzBindAddress: o.HealthAddress, //nolint:gosec // G115: validated to be a port
		CgroupRoot: o.CgroupRoot, PodPidsLimit: new(o.PodPidsLimit), CPUCFSQuota: new(o.CPUQuota),
		SeccompDefault: new(o.SeccompDefault), SerializeImagePulls: new(o.SerializePulls),
		MaxParallelImagePulls:       new(int32(o.MaxParallelPulls)), //nolint:gosec // G115: far below
		ImageGCHighThresholdPercent: new(int32(o.ImageGCHigh)),      //nolint:gosec // G115: at most 100
		ImageGCLowThresholdPercent:  new(int32(o.ImageGCLow)),       //nolint:gosec // G115: at most 100
		ContainerLogMaxSize:         o.LogMaxSize,
		ContainerLogMaxFiles:        new(int32(o.LogMaxFiles)),                               //nolint:gosec // G115: far below
		KubeAPIQPS:                  new(int32(o.API.QPS)), KubeAPIBurst: int32(o.API.Burst), //nolint:gosec // G115: far below
		ContentType: o.API.ContentType,
	}
	c.Authentication.X509.ClientCAFile = o.Auth.ClientCAFile
	c.Authentication.Webhook.Enabled = new(true)
	c.Authentication.Anonymous.Enabled = new(false)
	c.Authorization.Mode = kubeletv1beta1.KubeletAuthorizationModeWebhook
	if o.MaxCrashBackOff > 0 {
		c.CrashLoopBackOff.MaxContainerRestartPeriod = &metav1.Duration{Duration: o.MaxCrashBackOff}
	}
	o.nodeConfiguration(c)
	return c
}

func (o *Options) nodeConfiguration(c *kubeletv1beta1.KubeletConfiguration) {
	c.ClusterDomain, c.ClusterDNS, c.ResolverConfig = o.ClusterDomain, o.ClusterDNS, new(o.ResolvConf)
	c.NodeStatusUpdateFrequency = metav1.Duration{Duration: o.StatusEvery}
	c.NodeStatusReportFrequency = metav1.Duration{Duration: o.StatusReport}
	c.NodeLeaseDurationSeconds = int32(o.LeaseDuration.Seconds())
	c.MaxPods = int32(o.MaxPods) //nolint:gosec // G115: far below
	c.PodCIDR, c.RegisterNode = o.PodCIDR, new(o.RegisterNode)
	c.SystemReserved, c.KubeReserved, c.EvictionHard = o.SystemReserved, o.KubeReserved, o.EvictionHard
	c.RegisterWithTaints = o.taints()
	c.FeatureGates = o.Gates
}
