package podworker

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// Termination is a decision to end a Pod.
type Termination struct {
	// Since is when it was decided; Deadline is when whatever still runs is killed.
	Since, Deadline time.Time
	// Completed: the containers ended by themselves; only sidecars are left.
	Completed bool
	// Reason and Message go to status, and Phase is forced, when the node ends
	// the Pod (Evicted, DeadlineExceeded); "" for a deleted Pod.
	Reason, Message string
	Phase           corev1.PodPhase
	// Disruption, if not "", is the text of a DisruptionTarget condition.
	Disruption string
}

// Waiting is why a container could not be started.
type Waiting struct {
	Reason, Message string
	// RetryAt is when to try again.
	RetryAt time.Time
	// Attempt that failed.
	Attempt int
}

// Busy is what is under way with a container.
type Busy string

// What may be under way.
const (
	Starting Busy = "starting"
	Stopping Busy = "stopping"
)

// View is all that Step looks at: what is wanted of a Pod and what is.
type View struct {
	Pod *corev1.Pod
	Now time.Time
	// Prepared: the hooks have made the Pod ready for containers.
	Prepared bool
	// Stop is not nil when the Pod is to end.
	Stop *Termination
	// Containers are the known attempts by container name, oldest first.
	Containers map[string][]container.Status
	// Probes are the results for running containers.
	Probes map[container.ID]lifecycle.ProbeResults
	// Busy is what is under way, by container name.
	Busy map[string]Busy
	// Waiting are failed starts, by container name.
	Waiting map[string]Waiting
	// BackOff is the earliest time of the next start after a crash.
	BackOff map[string]time.Time
	// FirstAttempt numbers the first attempt of containers the runtime does
	// not know any more (the node was rebooted).
	FirstAttempt map[string]int
	// Resize is how the containers' sizes stand.
	Resize Resize
}

// Start is a container to be started.
type Start struct {
	Container *corev1.Container
	Attempt   int
}

// Plan is what to do now. Everything in it may be done at the same time.
type Plan struct {
	// Prepare: run the hooks.
	Prepare bool
	Start   []Start
	Stop    []lifecycle.StopRequest
	Remove  []container.ID
	// BackingOff are containers that wait after a crash.
	BackingOff []container.ID
	// Completed: all containers have ended for good; the Pod is to be stopped.
	Completed bool
	// Done: nothing runs any more and nothing will.
	Done bool
	// Wake is when to look again if nothing happens; zero is never.
	Wake time.Time
}

func (p *Plan) wakeAt(t time.Time) {
	if !t.IsZero() && (p.Wake.IsZero() || t.Before(p.Wake)) {
		p.Wake = t
	}
}

// Step decides. It is a pure function of the view.
//
//	new ──Prepare──► init containers, one after the other ──► containers
//	                     │ (sidecars stay)                       │ restarts
//	                     ▼                                       ▼
//	                  failed ──────────► Completed ──► stop sidecars ──► Done
//	deleted, evicted, past its deadline ──► stop all ──────────────────► Done
func Step(v View) Plan {
	if v.Stop != nil {
		return stopping(v)
	}
	var plan Plan
	if completed(v) {
		plan.Completed = true
		return plan
	}
	if !v.Prepared {
		plan.Prepare = true
		return plan
	}
	stopUnhealthy(v, &plan)
	if initialize(v, &plan) {
		startRegular(v, &plan)
	}
	startEphemeral(v, &plan)
	prune(v, &plan)
	return plan
}

func latest(v View, name string) *container.Status {
	attempts := v.Containers[name]
	if len(attempts) == 0 {
		return nil
	}
	return &attempts[len(attempts)-1]
}

// IsSidecar tells restartable init containers.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// initialized: a container proper was ever created, so the init containers
// are done even if one of their records is gone.
func initialized(v View) bool {
	for i := range v.Pod.Spec.Containers {
		if len(v.Containers[v.Pod.Spec.Containers[i].Name]) > 0 {
			return true
		}
	}
	return false
}

// restarts says whether a container that ended so is started again.
func restarts(pod *corev1.Pod, c *corev1.Container, ended *container.Status, init bool) bool {
	if init && IsSidecar(c) {
		return true
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	for _, rule := range c.RestartPolicyRules {
		if rule.Action == corev1.ContainerRestartRuleActionRestart && ruleMatches(rule, ended.ExitCode) {
			return !init || ended.ExitCode != 0
		}
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return ended.ExitCode != 0
	default:
		return !init || ended.ExitCode != 0
	}
}

func ruleMatches(rule corev1.ContainerRestartRule, code int) bool {
	if rule.ExitCodes == nil {
		return false
	}
	listed := slices.Contains(rule.ExitCodes.Values, int32(code))
	return listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn)
}

// completed: every container has ended for good, or initialization has failed.
func completed(v View) bool {
	if !initialized(v) {
		for i := range v.Pod.Spec.InitContainers {
			c := &v.Pod.Spec.InitContainers[i]
			last := latest(v, c.Name)
			if last != nil && last.State == container.Exited && last.ExitCode != 0 && !restarts(v.Pod, c, last, true) {
				return true
			}
		}
		return false
	}
	for i := range v.Pod.Spec.Containers {
		c := &v.Pod.Spec.Containers[i]
		last := latest(v, c.Name)
		if last == nil || last.State != container.Exited || v.Busy[c.Name] == Starting || restarts(v.Pod, c, last, false) {
			return false
		}
	}
	return true
}

// initialize drives the init containers and reports whether the containers
// proper may start.
func initialize(v View, plan *Plan) bool {
	done := initialized(v)
	for i := range v.Pod.Spec.InitContainers {
		c := &v.Pod.Spec.InitContainers[i]
		last := latest(v, c.Name)
		sidecar := IsSidecar(c)
		switch {
		case done && !sidecar:
			continue
		case last == nil || last.State == container.Created:
			start(v, plan, c, last)
		case last.State == container.Running:
			if sidecar && v.Probes[last.ID].Started {
				continue
			}
		case sidecar || last.ExitCode != 0:
			start(v, plan, c, last)
		default:
			continue // ended well
		}
		if !done {
			return false
		}
	}
	return true
}

// startRegular starts containers in order: one that is being started holds
// back those after it, so that its postStart comes before their start.
func startRegular(v View, plan *Plan) {
	for i := range v.Pod.Spec.Containers {
		c := &v.Pod.Spec.Containers[i]
		last := latest(v, c.Name)
		if v.Busy[c.Name] == Starting {
			return
		}
		if last == nil || last.State == container.Created {
			if start(v, plan, c, last) {
				return
			}
			continue
		}
		if last.State == container.Exited && restarts(v.Pod, c, last, false) {
			start(v, plan, c, last)
		}
	}
}

func startEphemeral(v View, plan *Plan) {
	for i := range v.Pod.Spec.EphemeralContainers {
		c := lifecycle.FindContainer(v.Pod, v.Pod.Spec.EphemeralContainers[i].Name)
		if last := latest(v, c.Name); last == nil || last.State == container.Created {
			start(v, plan, c, last)
		}
	}
}

// start plans a start unless something is under way or it is too early; true
// if planned.
func start(v View, plan *Plan, c *corev1.Container, last *container.Status) bool {
	if v.Busy[c.Name] != "" {
		return false
	}
	if wait := v.Waiting[c.Name]; v.Now.Before(wait.RetryAt) {
		plan.wakeAt(wait.RetryAt)
		return false
	}
	attempt := v.FirstAttempt[c.Name]
	if last != nil {
		attempt = last.ID.Attempt
		if last.State == container.Exited {
			attempt++
			if at := v.BackOff[c.Name]; v.Now.Before(at) {
				plan.BackingOff = append(plan.BackingOff, last.ID)
				plan.wakeAt(at)
				return false
			}
		}
	}
	plan.Start = append(plan.Start, Start{Container: c, Attempt: attempt})
	return true
}

// stopUnhealthy stops running containers whose probes have failed or whose
// image was changed; they restart by their policy.
func stopUnhealthy(v View, plan *Plan) {
	check := func(c *corev1.Container, init bool) {
		last := latest(v, c.Name)
		if last == nil || last.State != container.Running || v.Busy[c.Name] != "" {
			return
		}
		result := v.Probes[last.ID]
		var message string
		var probe *corev1.Probe
		switch image := last.Annotations[lifecycle.AnnotationImage]; {
		case image != "" && image != c.Image:
			message = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)
		case result.StartupFailed:
			message, probe = unhealthy(v, c, "startup", init), c.StartupProbe
		case result.LivenessFailed:
			message, probe = unhealthy(v, c, "liveness", init), c.LivenessProbe
		default:
			return
		}
		plan.Stop = append(plan.Stop, lifecycle.StopRequest{
			ID: last.ID, Message: message, Deadline: v.Now.Add(graceOf(v.Pod, probe)),
		})
	}
	for i := range v.Pod.Spec.InitContainers {
		if c := &v.Pod.Spec.InitContainers[i]; IsSidecar(c) {
			check(c, true)
		}
	}
	for i := range v.Pod.Spec.Containers {
		check(&v.Pod.Spec.Containers[i], false)
	}
}

// killedExitCode is what a shell reports for SIGKILL, and stands for how an
// unhealthy container will have ended.
const killedExitCode = 137

func unhealthy(v View, c *corev1.Container, kind string, init bool) string {
	text := fmt.Sprintf("Container %s failed %s probe", c.Name, kind)
	if restarts(v.Pod, c, &container.Status{ExitCode: killedExitCode}, init) {
		text += ", will be restarted"
	}
	return text
}

// defaultGrace is terminationGracePeriodSeconds where nothing set it.
const defaultGrace = 30 * time.Second

func graceOf(pod *corev1.Pod, probe *corev1.Probe) time.Duration {
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		return defaultGrace
	}
	return time.Duration(ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, 0)) * time.Second
}

// stopping ends the Pod: everything but sidecars at once, then the sidecars in
// reverse order of their start.
func stopping(v View) Plan {
	var plan Plan
	open := false
	stop := func(name string) {
		if v.Busy[name] != "" {
			open = true
		}
		for _, status := range v.Containers[name] {
			if status.State == container.Running {
				open = true
				plan.Stop = append(plan.Stop, lifecycle.StopRequest{
					ID: status.ID, Message: "Stopping container " + name, Deadline: v.Stop.Deadline,
				})
			}
		}
	}
	for i := range v.Pod.Spec.EphemeralContainers {
		stop(v.Pod.Spec.EphemeralContainers[i].Name)
	}
	for i := range v.Pod.Spec.Containers {
		stop(v.Pod.Spec.Containers[i].Name)
	}
	for i := range v.Pod.Spec.InitContainers {
		if c := &v.Pod.Spec.InitContainers[i]; !IsSidecar(c) {
			stop(c.Name)
		}
	}
	for i := len(v.Pod.Spec.InitContainers) - 1; i >= 0 && !open; i-- {
		if c := &v.Pod.Spec.InitContainers[i]; IsSidecar(c) {
			stop(c.Name)
		}
	}
	plan.Done = !open
	return plan
}

// prune removes old attempts: the last one and the one before it are what
// status and "logs --previous" show.
func prune(v View, plan *Plan) {
	for name, attempts := range v.Containers {
		if v.Busy[name] != "" {
			continue
		}
		for i := 0; i < len(attempts)-2; i++ {
			plan.Remove = append(plan.Remove, attempts[i].ID)
		}
	}
}
