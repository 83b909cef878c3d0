package app

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// ConfigFile is --config.
func (o *Options) ConfigFile() string { return o.Config }

// maxConfigBytes bounds the file; real ones have a few kilobytes.
const maxConfigBytes = 1 << 20

// LoadConfig takes the settings of a KubeletConfiguration file. Unknown fields
// are an error; known ones that have no effect here are told at start.
func (o *Options) LoadConfig(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxConfigBytes {
		return fmt.Errorf("file has %d bytes, at most %d are read", info.Size(), maxConfigBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config kubeletv1beta1.KubeletConfiguration
	if err := yaml.UnmarshalStrict(data, &config); err != nil {
		return fmt.Errorf("decode KubeletConfiguration: %w", err)
	}
	if config.APIVersion != "kubelet.config.k8s.io/v1beta1" || config.Kind != "KubeletConfiguration" {
		return fmt.Errorf("file holds a %s %q, not a kubelet.config.k8s.io/v1beta1 KubeletConfiguration", config.APIVersion, config.Kind)
	}
	o.fromFile(&config)
	o.nodeFromFile(&config)
	o.unused, err = unusedFields(data)
	return err
}

// take sets *to if the file has a value.
func take[T comparable](to *T, value T) {
	var zero T
	if value != zero {
		*to = value
	}
}

func takeMap(to *map[string]string, value map[string]string) {
	if value != nil {
		*to = value
	}
}

func takePointer[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

func takeDuration(to *time.Duration, value metav1.Duration) { take(to, value.Duration) }

func (o *Options) fromFile(c *kubeletv1beta1.KubeletConfiguration) {
	take(&o.ManifestPath, c.StaticPodPath)
	takeDuration(&o.ManifestEvery, c.FileCheckFrequency)
	take(&o.Address, c.Address)
	take(&o.Port, int(c.Port))
	take(&o.CertFile, c.TLSCertFile)
	take(&o.KeyFile, c.TLSPrivateKeyFile)
	o.RotateCertificates = o.RotateCertificates || c.RotateCertificates
	o.RotateServerCerts = o.RotateServerCerts || c.ServerTLSBootstrap
	take(&o.Auth.ClientCAFile, c.Authentication.X509.ClientCAFile)
	if c.HealthzPort != nil {
		o.HealthPort = int(*c.HealthzPort)
	}
	take(&o.HealthAddress, c.HealthzBindAddress)
	take(&o.CgroupRoot, c.CgroupRoot)
	takePointer(&o.PodPidsLimit, c.PodPidsLimit)
	takePointer(&o.CPUQuota, c.CPUCFSQuota)
	takePointer(&o.SeccompDefault, c.SeccompDefault)
	takePointer(&o.SerializePulls, c.SerializeImagePulls)
	if c.MaxParallelImagePulls != nil {
		o.MaxParallelPulls = int(*c.MaxParallelImagePulls)
	}
	if c.ImageGCHighThresholdPercent != nil {
		o.ImageGCHigh = int(*c.ImageGCHighThresholdPercent)
	}
	if c.ImageGCLowThresholdPercent != nil {
		o.ImageGCLow = int(*c.ImageGCLowThresholdPercent)
	}
	take(&o.LogMaxSize, c.ContainerLogMaxSize)
	if c.ContainerLogMaxFiles != nil {
		o.LogMaxFiles = int(*c.ContainerLogMaxFiles)
	}
	if c.CrashLoopBackOff.MaxContainerRestartPeriod != nil {
		o.MaxCrashBackOff = c.CrashLoopBackOff.MaxContainerRestartPeriod.Duration
	}
	if c.KubeAPIQPS != nil {
		o.API.QPS = float32(*c.KubeAPIQPS)
	}
	take(&o.API.Burst, c.KubeAPIBurst)
	take(&o.API.ContentType, c.ContentType)
}

func (o *Options) nodeFromFile(c *kubeletv1beta1.KubeletConfiguration) {
	take(&o.ClusterDomain, c.ClusterDomain)
	if len(c.ClusterDNS) > 0 {
		o.ClusterDNS = c.ClusterDNS
	}
	takePointer(&o.ResolvConf, c.ResolverConfig)
	takeDuration(&o.StatusEvery, c.NodeStatusUpdateFrequency)
	takeDuration(&o.StatusReport, c.NodeStatusReportFrequency)
	take(&o.LeaseDuration, time.Duration(c.NodeLeaseDurationSeconds)*time.Second)
	take(&o.MaxPods, int(c.MaxPods))
	take(&o.PodCIDR, c.PodCIDR)
	takePointer(&o.RegisterNode, c.RegisterNode)
	takeMap(&o.SystemReserved, c.SystemReserved)
	takeMap(&o.KubeReserved, c.KubeReserved)
	takeMap(&o.EvictionHard, c.EvictionHard)
	if c.RegisterWithTaints != nil {
		o.Taints = nil
		for _, taint := range c.RegisterWithTaints {
			o.Taints = append(o.Taints, formatTaint(taint))
		}
	}
	if c.FeatureGates != nil {
		o.Gates = c.FeatureGates
	}
}

// usedFields are those that fromFile and nodeFromFile take, and those whose
// only sensible value is what is done anyway.
var usedFields = []string{
	"apiVersion", "kind", "staticPodPath", "fileCheckFrequency", "address", "port", "tlsCertFile", "tlsPrivateKeyFile",
	"rotateCertificates", "serverTLSBootstrap", "authentication", "authorization", "healthzPort", "healthzBindAddress",
	"cgroupRoot", "podPidsLimit", "cpuCFSQuota", "seccompDefault", "serializeImagePulls", "maxParallelImagePulls",
	"imageGCHighThresholdPercent", "imageGCLowThresholdPercent", "containerLogMaxSize", "containerLogMaxFiles",
	"crashLoopBackOff", "kubeAPIQPS", "kubeAPIBurst", "contentType", "clusterDomain", "clusterDNS", "resolvConf",
	"nodeStatusUpdateFrequency", "nodeStatusReportFrequency", "nodeLeaseDurationSeconds", "maxPods", "podCIDR",
	"registerNode", "systemReserved", "kubeReserved", "evictionHard", "registerWithTaints", "featureGates",
}

// unusedFields lists the file's fields that are set and have no effect.
func unusedFields(data []byte) ([]string, error) {
	var fields map[string]any
	if err := yaml.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("decode KubeletConfiguration: %w", err)
	}
	var unused []string
	for name, value := range fields {
		if value == nil || slices.Contains(usedFields, name) || reflect.ValueOf(value).IsZero() {
			continue
		}
		unused = append(unused, name)
	}
	slices.SortFunc(unused, strings.Compare)
	return unused, nil
}
