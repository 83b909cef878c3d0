package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Recorder shows users what happens to a Pod or (containerName not "") one of
// its containers, as an Event.
type Recorder interface {
	Event(pod *corev1.Pod, containerName, eventType, reason, message string)
}

// StartError is why a container does not run, with the reason that its
// waiting state shows.
type StartError struct {
	Reason, Message string
	// RetryAfter is how long another try is pointless; 0 leaves it to the caller.
	RetryAfter time.Duration
}

// Error is reason and message.
func (e *StartError) Error() string { return e.Reason + ": " + e.Message }

// Reasons of containers that wait for their image or configuration.
const (
	ErrImagePull           = "ErrImagePull"
	ImagePullBackOff       = "ImagePullBackOff"
	ErrImageNeverPull      = "ErrImageNeverPull"
	InvalidImageName       = "InvalidImageName"
	CreateContainerConfig  = "CreateContainerConfigError"
	CreateContainerFailed  = "CreateContainerError"
	RunContainerFailed     = "RunContainerError"
	PostStartHookFailed    = "PostStartHookError"
	backOffFirst           = 10 * time.Second
	backOffMax             = 300 * time.Second
	imageBackOffForgetting = 2 * backOffMax
)

// Puller brings a container's image onto the node by its pull policy, with
// back-off after failures. Pulls of one image by several Pods are the image
// store's to join.
type Puller struct {
	Images   Images
	Recorder Recorder
	Clock    clock.PassiveClock
	// Secret reads an image pull secret; required.
	Secret func(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// NodeKeys are the node's own registry credentials; may be nil.
	NodeKeys *Keyring
	// Slots bounds pulls at the same time; nil does not.
	Slots chan struct{}

	mu sync.Mutex
	// backOff is guarded by mu; by pod UID and image.
	backOff map[string]*imageBackOff
}

type imageBackOff struct {
	delay    time.Duration
	failedAt time.Time
	reason   string
}

// Name is "images".
func (*Puller) Name() string { return "images" }

// Cleanup forgets the Pod's back-off.
func (p *Puller) Cleanup(_ context.Context, uid types.UID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.backOff {
		if strings.HasPrefix(key, string(uid)+"/") {
			delete(p.backOff, key)
		}
	}
	return nil
}

// Ensure returns the container's image, pulling it if the policy says so. The
// error is a *StartError.
func (p *Puller) Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (Image, error) {
	image, present, err := p.Images.Resolve(ctx, c.Image)
	if errors.Is(err, ErrImageInvalid) {
		text := fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)
		p.warn(pod, c, "InspectFailed", text)
		return Image{}, &StartError{Reason: InvalidImageName, Message: text}
	}
	if err != nil {
		text := fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)
		p.warn(pod, c, "InspectFailed", text)
		return Image{}, &StartError{Reason: "ImageInspectError", Message: text}
	}
	switch {
	case present && c.ImagePullPolicy != corev1.PullAlways:
		p.event(pod, c, "Pulled", fmt.Sprintf("Container image %q already present on machine", c.Image))
		return image, nil
	case c.ImagePullPolicy == corev1.PullNever:
		text := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		p.warn(pod, c, ErrImageNeverPull, text)
		return Image{}, &StartError{Reason: ErrImageNeverPull, Message: text}
	}
	if wait, why := p.waiting(pod.UID, c.Image); wait > 0 {
		p.event(pod, c, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
		return Image{}, &StartError{
			Reason: ImagePullBackOff, RetryAfter: wait,
			Message: fmt.Sprintf("Back-off pulling image %q: %s", c.Image, why),
		}
	}
	return p.pull(ctx, pod, c)
}

func (p *Puller) pull(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (Image, error) {
	if p.Slots != nil {
		select {
		case p.Slots <- struct{}{}:
			defer func() { <-p.Slots }()
		case <-ctx.Done():
			return Image{}, &StartError{Reason: ErrImagePull, Message: ctx.Err().Error()}
		}
	}
	p.event(pod, c, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	started := p.Clock.Now()
	image, err := p.Images.Pull(ctx, c.Image, p.credentials(ctx, pod, c.Image))
	took := p.Clock.Since(started).Truncate(time.Millisecond)
	if err != nil {
		if ctx.Err() != nil {
			return Image{}, &StartError{Reason: ErrImagePull, Message: ctx.Err().Error()}
		}
		text := fmt.Sprintf("Failed to pull image %q: %v", c.Image, err)
		p.warn(pod, c, "Failed", text)
		wait := p.failed(pod.UID, c.Image, fmt.Sprintf("%s: %v", ErrImagePull, err))
		return Image{}, &StartError{Reason: ErrImagePull, Message: err.Error(), RetryAfter: min(wait, time.Second)}
	}
	p.mu.Lock()
	delete(p.backOff, backOffKey(pod.UID, c.Image))
	p.mu.Unlock()
	p.event(pod, c, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		c.Image, took, took, image.SizeBytes))
	return image, nil
}

// credentials gathers the Pod's and the node's; a missing secret is told and
// passed over, since the image may be public.
func (p *Puller) credentials(ctx context.Context, pod *corev1.Pod, image string) []Credential {
	keys := &Keyring{}
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		secret, err := p.Secret(ctx, pod.Namespace, ref.Name)
		if err == nil {
			err = keys.AddSecret(secret)
		}
		if err != nil {
			p.Recorder.Event(pod, "", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", fmt.Sprintf(
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed: %v", ref.Name, err))
		}
	}
	found := keys.Lookup(image)
	if p.NodeKeys != nil {
		found = append(found, p.NodeKeys.Lookup(image)...)
	}
	return found
}

func backOffKey(uid types.UID, image string) string { return string(uid) + "/" + image }

func (p *Puller) waiting(uid types.UID, image string) (time.Duration, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.backOff[backOffKey(uid, image)]
	if entry == nil {
		return 0, ""
	}
	return entry.delay - p.Clock.Since(entry.failedAt), entry.reason
}

// failed notes a failure and returns how long to wait.
func (p *Puller) failed(uid types.UID, image, reason string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.backOff == nil {
		p.backOff = map[string]*imageBackOff{}
	}
	entry := p.backOff[backOffKey(uid, image)]
	now := p.Clock.Now()
	switch {
	case entry == nil || now.Sub(entry.failedAt) > imageBackOffForgetting:
		entry = &imageBackOff{delay: backOffFirst}
		p.backOff[backOffKey(uid, image)] = entry
	default:
		entry.delay = min(2*entry.delay, backOffMax)
	}
	entry.failedAt, entry.reason = now, reason
	return entry.delay
}

func (p *Puller) event(pod *corev1.Pod, c *corev1.Container, reason, message string) {
	p.Recorder.Event(pod, c.Name, corev1.EventTypeNormal, reason, message)
}

func (p *Puller) warn(pod *corev1.Pod, c *corev1.Container, reason, message string) {
	p.Recorder.Event(pod, c.Name, corev1.EventTypeWarning, reason, message)
}
