package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"sigs.k8s.io/yaml"
)

// What /configz shows, given as --config, makes the same settings.
func TestConfigurationReadsBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Options)
	}{
		{"defaults", func(*Options) {}},
		{"all set", func(o *Options) {
			o.ManifestPath, o.ManifestEvery, o.Address, o.Port = "/m", time.Second, "127.0.0.1", 1
			o.CertFile, o.KeyFile, o.HealthPort, o.HealthAddress = "/c", "/k", 0, "::1"
			o.CgroupRoot, o.PodPidsLimit, o.CPUQuota, o.SeccompDefault = "/x", 7, false, false
			o.SerializePulls, o.MaxParallelPulls, o.ImageGCHigh, o.ImageGCLow = true, 3, 70, 60
			o.LogMaxSize, o.LogMaxFiles, o.MaxCrashBackOff = "1Mi", 3, time.Minute
			o.ClusterDNS, o.ClusterDomain, o.ResolvConf = []string{"10.0.0.10"}, "c.local", "/r"
			o.StatusEvery, o.StatusReport, o.LeaseDuration = time.Minute, time.Hour, 8*time.Second
			o.MaxPods, o.PodCIDR, o.RegisterNode = 9, "10.1.0.0/24", false
			o.SystemReserved, o.KubeReserved = map[string]string{"cpu": "1"}, map[string]string{"memory": "1Gi"}
			o.EvictionHard, o.Taints = map[string]string{"memory.available": "1%"}, []string{"a=b:NoSchedule"}
			o.Auth.ClientCAFile, o.API.QPS, o.API.Burst = "/ca", 3, 4
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := DefaultOptions()
			test.change(want)
			config := want.configuration()
			config.APIVersion, config.Kind = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
			data, err := yaml.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			got := DefaultOptions()
			if err := got.LoadConfig(path); err != nil {
				t.Fatal(err)
			}
			// Fields that the kubelet knows nothing of are there with zero values.
			got.unused = nil
			if !equality.Semantic.DeepEqual(got, want) {
				t.Error(diff.Diff(want, got))
			}
		})
	}
}
