package plugins

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// Image sizes between which the score grows: smaller ones are pulled quickly,
// beyond the larger one, per container, all count the same (upstream's values).
const (
	smallImageBytes = 23 << 20
	largeImageBytes = 1000 << 20
)

const imageLocalityState = "ImageLocality"

// ImageLocality prefers nodes that have the Pod's images already, less so for
// images that few nodes have.
type ImageLocality struct{}

// NewImageLocality makes the plugin.
func NewImageLocality() *ImageLocality { return &ImageLocality{} }

// Name is ImageLocality.
func (*ImageLocality) Name() string { return "ImageLocality" }

// spreadOfImages is, for each image of the Pod, the share of the feasible nodes that have it.
type spreadOfImages map[string]float64

// Clone returns the same: it is never changed.
func (s spreadOfImages) Clone() framework.StateData { return s }

// PreScore counts the nodes that have each image.
func (*ImageLocality) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	spread := spreadOfImages{}
	for _, name := range podImages(pod.Pod) {
		for _, n := range nodes {
			if _, ok := n.ImageBytes[name]; ok {
				spread[name]++
			}
		}
	}
	for name := range spread {
		spread[name] /= float64(len(nodes))
	}
	if len(spread) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	state.Write(imageLocalityState, spread)
	return nil
}

// Score is the size of what is there, within the thresholds.
func (*ImageLocality) Score(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	spread, ok := framework.ReadState[spreadOfImages](state, imageLocalityState)
	if !ok {
		return 0, nil
	}
	images := podImages(pod.Pod)
	var present float64
	for _, name := range images {
		present += float64(node.ImageBytes[name]) * spread[name]
	}
	largest := float64(largeImageBytes * len(images))
	present = min(max(present, smallImageBytes), largest)
	return int64(float64(framework.MaxNodeScore) * (present - smallImageBytes) / (largest - smallImageBytes)), nil
}

// podImages lists the images by the names nodes report them under.
func podImages(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.InitContainers {
		names = append(names, normalized(pod.Spec.InitContainers[i].Image))
	}
	for i := range pod.Spec.Containers {
		names = append(names, normalized(pod.Spec.Containers[i].Image))
	}
	return names
}

// normalized adds the default tag: a colon in the last element is a tag or a
// digest.
func normalized(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}
