package app

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/network"
)

func TestPodFacts(t *testing.T) {
	t.Parallel()
	attached := func(types.UID) (network.Attachment, bool) {
		return network.Attachment{IPs: []string{"10.1.0.2", "fd00::2"}}, true
	}
	unknown := func(types.UID) (network.Attachment, bool) { return network.Attachment{}, false }
	for _, test := range []struct {
		name   string
		host   bool
		lookup func(types.UID) (network.Attachment, bool)
		want   []string
	}{
		{"attached", false, attached, []string{"10.1.0.2", "fd00::2"}},
		{"not attached", false, unknown, nil},
		{"on the node's network", true, unknown, []string{"192.0.2.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			facts := podFacts(&corev1.Pod{Spec: corev1.PodSpec{HostNetwork: test.host}}, []string{"192.0.2.1"}, test.lookup)
			if !slices.Equal(facts.IPs, test.want) || !slices.Equal(facts.HostIPs, []string{"192.0.2.1"}) {
				t.Errorf("facts are %+v", facts)
			}
		})
	}
}
