package kubeclient

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.conf")
	if err := (pki.Kubeconfig{Server: "https://10.0.0.1:6443", Token: "t"}).Write(path); err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions(50, 100)
	o.Kubeconfig = path
	if faults := o.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	config, err := Config(o, "scheduler")
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://10.0.0.1:6443" || config.ContentType != Protobuf || !strings.HasSuffix(config.AcceptContentTypes, ","+JSON) ||
		config.QPS != 50 || config.Burst != 100 || !strings.HasPrefix(config.UserAgent, "skeg-scheduler/") {
		t.Errorf("config %+v", config)
	}
	o.Master = "https://10.0.0.2:6443"
	if config, err := Config(o, "scheduler"); err != nil || config.Host != o.Master {
		t.Errorf("host %v, %v", config, err)
	}
	o.Kubeconfig = path + ".missing"
	if _, err := Config(o, "scheduler"); err == nil {
		t.Error("a missing file was accepted")
	}
	o.Burst = 0
	if len(o.Validate()) != 1 {
		t.Error("no burst was accepted")
	}
}

func TestInformersStripManagedFields(t *testing.T) {
	pod := testkit.Pod("ns", "p", func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}} })
	factory := Informers(fake.NewClientset(pod))
	lister := factory.Core().V1().Pods().Lister()
	factory.Core().V1().Pods().Informer()
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	got, err := lister.Pods("ns").Get("p")
	if err != nil || len(got.ManagedFields) != 0 {
		t.Errorf("pod %v, %v", got, err)
	}
}
