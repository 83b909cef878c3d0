package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Annotations kept with a container, to report it after a kubelet restart.
const (
	AnnotationImage   = "skeg.dev/image"    // as the Pod names it
	AnnotationImageID = "skeg.dev/image-id" // digest or id
	AnnotationUser    = "skeg.dev/user"     // "uid:gid:group,group"
)

// spec resolves everything a container is made of.
func (k *Containers) spec(ctx context.Context, pod *Pod, c *corev1.Container, id container.ID, image Image) (container.Spec, *StartError) {
	config := func(err error) (container.Spec, *StartError) {
		return container.Spec{}, &StartError{Reason: CreateContainerConfig, Message: configMessage(err)}
	}
	if err := checkNonRoot(pod.API, c, image.User); err != nil {
		return config(err)
	}
	facts := Facts{IPs: pod.IPs, HostIPs: pod.HostIPs, Hostname: pod.Hostname}
	env, err := k.Environment.Env(ctx, pod.API, c, facts)
	if err != nil {
		return config(err)
	}
	env = mergeEnv(image.Env, env)
	mounts, err := k.mounts(ctx, pod, c, facts)
	if err != nil {
		return config(err)
	}
	args, err := command(c, image, env)
	if err != nil {
		return container.Spec{}, &StartError{Reason: CreateContainerFailed, Message: err.Error()}
	}
	termination, err := terminationLog(pod.Dir, id)
	if err != nil {
		return config(err)
	}
	if path := c.TerminationMessagePath; path != "" {
		mounts = append(mounts, container.Mount{Source: termination, Target: path})
	}
	logPath := LogPath(pod.LogDir, c.Name, id.Attempt)
	if err := os.MkdirAll(filepath.Dir(logPath), 0o755); err != nil {
		return config(fmt.Errorf("make log directory: %w", err))
	}
	spec := container.Spec{
		ID: id, Args: args, Env: env, WorkingDir: workingDir(c, image),
		Mounts:    mounts,
		Resources: k.resources(pod.API, c),
		Security:  k.security(pod.API, c),
		TTY:       c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		StopSignal: stopSignal(c, image),
		LogPath:    logPath, TerminationLog: termination,
		TargetPID: targetPID(pod.API, c.Name),
	}
	if err := k.root(ctx, pod, c, image, &spec); err != nil {
		return container.Spec{}, &StartError{Reason: CreateContainerFailed, Message: err.Error()}
	}
	return spec, nil
}

func configMessage(err error) string {
	// ErrConfig is a class, not a text for users.
	return strings.TrimPrefix(strings.TrimSuffix(err.Error(), ": "+ErrConfig.Error()), ErrConfig.Error()+": ")
}

// root mounts the image and resolves the user in it.
func (k *Containers) root(ctx context.Context, pod *Pod, c *corev1.Container, image Image, spec *container.Spec) error {
	rootfs, err := k.Images.Mount(ctx, rootKey(spec.ID), image.ID)
	if err != nil {
		return fmt.Errorf("mount image %s: %w", image.ID, err)
	}
	user, err := k.Images.ResolveUser(rootfs, userOf(pod.API, c, image.User))
	if err != nil {
		return fmt.Errorf("find user of container: %w", err)
	}
	spec.Rootfs = rootfs
	spec.Security.UID, spec.Security.GID = user.UID, user.GID
	spec.Security.AdditionalGroups = groups(pod.API, user)
	imageID := image.Digest
	if imageID == "" {
		imageID = image.ID
	}
	spec.Annotations = map[string]string{
		AnnotationImage:   c.Image,
		AnnotationImageID: imageID,
		AnnotationUser:    formatUser(user.UID, user.GID, spec.Security.AdditionalGroups),
	}
	return nil
}

func formatUser(uid, gid int64, groups []int64) string {
	texts := make([]string, len(groups))
	for i, g := range groups {
		texts[i] = strconv.FormatInt(g, 10)
	}
	return fmt.Sprintf("%d:%d:%s", uid, gid, strings.Join(texts, ","))
}

// mounts are the volumes, and the files every container finds unless a volume
// is mounted in their place.
func (k *Containers) mounts(ctx context.Context, pod *Pod, c *corev1.Container, facts Facts) ([]container.Mount, error) {
	mounts, err := k.Volumes.Mounts(ctx, pod.API, c)
	if err != nil {
		return nil, fmt.Errorf("resolve volume mounts: %w", err)
	}
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[filepath.Clean(m.Target)] = true
	}
	files, err := k.Environment.Files(ctx, pod.API, c, pod.Dir, facts)
	if err != nil {
		return nil, fmt.Errorf("write pod files: %w", err)
	}
	for _, m := range files {
		if !taken[filepath.Clean(m.Target)] {
			mounts = append(mounts, m)
		}
	}
	return mounts, nil
}

// command combines the image's and the container's, with $(VAR) expanded.
func command(c *corev1.Container, image Image, env []string) ([]string, error) {
	values := map[string]string{}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			values[name] = value
		}
	}
	var args []string
	switch {
	case len(c.Command) > 0:
		args = append(args, expandAll(c.Command, values)...)
		args = append(args, expandAll(c.Args, values)...)
	case len(c.Args) > 0:
		args = append(args, image.Entrypoint...)
		args = append(args, expandAll(c.Args, values)...)
	default:
		args = append(args, image.Entrypoint...)
		args = append(args, image.Cmd...)
	}
	if len(args) == 0 {
		return nil, errors.New("no command specified")
	}
	return args, nil
}

func expandAll(in []string, values map[string]string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = expand(s, values)
	}
	return out
}

// expand replaces $(NAME); "$$" is a dollar sign, unknown names stay as they
// are (API reference, Container.command).
func expand(in string, values map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(in); i++ {
		if in[i] != '$' || i+1 == len(in) {
			out.WriteByte(in[i])
			continue
		}
		switch in[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(in[i+2:], ')')
			if end < 0 {
				out.WriteByte('$')
				continue
			}
			name := in[i+2 : i+2+end]
			if value, ok := values[name]; ok {
				out.WriteString(value)
			} else {
				out.WriteString("$(" + name + ")")
			}
			i += end + 2
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}

// mergeEnv puts the container's variables over the image's.
func mergeEnv(image, own []string) []string {
	set := map[string]bool{}
	for _, kv := range own {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	out := make([]string, 0, len(image)+len(own)+1)
	for _, kv := range image {
		if name, _, _ := strings.Cut(kv, "="); !set[name] {
			out = append(out, kv)
			set[name] = true
		}
	}
	if !set["PATH"] {
		out = append(out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return append(out, own...)
}

func workingDir(c *corev1.Container, image Image) string {
	if c.WorkingDir != "" {
		return c.WorkingDir
	}
	if image.WorkingDir != "" {
		return image.WorkingDir
	}
	return "/"
}

func stopSignal(c *corev1.Container, image Image) string {
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		return string(*c.Lifecycle.StopSignal)
	}
	return image.StopSignal
}

func targetPID(pod *corev1.Pod, name string) string {
	for _, e := range pod.Spec.EphemeralContainers {
		if e.Name == name {
			return e.TargetContainerName
		}
	}
	return ""
}

// resources converts a container's requests and limits.
func (k *Containers) resources(pod *corev1.Pod, c *corev1.Container) container.Resources {
	request := c.Resources.Requests.Cpu()
	if request.IsZero() && !c.Resources.Limits.Cpu().IsZero() {
		request = c.Resources.Limits.Cpu()
	}
	out := container.Resources{
		CPUShares:        cpuShares(request),
		MemoryLimitBytes: c.Resources.Limits.Memory().Value(),
		HugepageLimits:   hugepages(c.Resources.Limits),
		OOMScoreAdj:      k.oomScore(pod, c),
	}
	if !k.NoQuota {
		out.CPUQuotaMicros, out.CPUPeriodMicros = cpuQuota(c.Resources.Limits.Cpu())
	}
	return out
}

// Scores as documented in "Node out of memory behavior": guaranteed -997,
// best effort 1000, burstable by its share of the node's memory, and Pods of
// system priority never before others.
const (
	oomGuaranteed  = -997
	oomBestEffort  = 1000
	systemPriority = 2_000_000_000
)

func (k *Containers) oomScore(pod *corev1.Pod, c *corev1.Container) int {
	if ptr.Deref(pod.Spec.Priority, 0) >= systemPriority {
		return oomGuaranteed
	}
	switch pod.Status.QOSClass {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	if k.NodeMemoryBytes == 0 {
		return oomBestEffort - 1
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/k.NodeMemoryBytes
	// Between the guaranteed and the best effort.
	return int(min(max(score, 1000+oomGuaranteed), oomBestEffort-1))
}
