package app

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func parse(t *testing.T, o *Options, args ...string) {
	t.Helper()
	fs := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	o := DefaultOptions()
	parse(t, o)
	if errs := o.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestValidateNamesFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ flag, value string }{
		{"--node-ip", "nowhere"}, {"--cluster-dns", "x"}, {"--max-pods", "0"}, {"--hostname-override", "A_b"},
		{"--register-with-taints", "a=b:Sometimes"}, {"--system-reserved", "disk=1"}, {"--kube-reserved", "cpu=x"},
		{"--eviction-hard", "moon.phase<1"}, {"--token", "x"}, {"--port", "70000"}, {"--pod-cidr", "10.0.0.0"},
		{"--node-labels", "a b=c"}, {"--container-log-max-size", "none"}, {"--image-gc-low-threshold", "99"},
		{"--tls-cert-file", "/x"}, {"--max-parallel-image-pulls", "0"},
	} {
		o := DefaultOptions()
		parse(t, o, test.flag+"="+test.value)
		if err := errors.Join(o.Validate()...); err == nil || !strings.Contains(err.Error(), test.flag) {
			t.Errorf("%s=%s: %v", test.flag, test.value, err)
		}
	}
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
clusterDNS: [10.96.0.10]
maxPods: 50
nodeStatusUpdateFrequency: 3s
seccompDefault: false
evictionHard: {memory.available: "5%"}
registerWithTaints: [{key: a, value: b, effect: NoSchedule}]
crashLoopBackOff: {maxContainerRestartPeriod: 60s}
topologyManagerPolicy: single-numa-node
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	if err := o.LoadConfig(path); err != nil {
		t.Fatal(err)
	}
	parse(t, o, "--max-pods=60")
	if o.MaxPods != 60 || o.StatusEvery != 3*time.Second || o.SeccompDefault || o.MaxCrashBackOff != time.Minute || o.ClusterDNS[0] != "10.96.0.10" {
		t.Errorf("options: %+v", o)
	}
	if !slices.Equal(o.unused, []string{"topologyManagerPolicy"}) {
		t.Errorf("unused: %v", o.unused)
	}
	if taints := o.taints(); len(taints) != 1 || taints[0].Key != "a" {
		t.Errorf("taints: %v", taints)
	}
	reserved, err := o.reserved(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1000Mi")})
	if err != nil {
		t.Fatal(err)
	}
	if memory := reserved[corev1.ResourceMemory]; memory.Value() != 50<<20 {
		t.Errorf("reserved: %v", reserved)
	}
	if err := os.WriteFile(path, []byte(text+"maxPodz: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DefaultOptions().LoadConfig(path); err == nil || !strings.Contains(err.Error(), "maxPodz") {
		t.Errorf("unknown field: %v", err)
	}
}
