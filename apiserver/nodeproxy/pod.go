package nodeproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/handler"
)

// maxErrorBytes bounds how much of a kubelet's error text is passed on.
const maxErrorBytes = 10000

var podResource = schema.GroupResource{Resource: "pods"}

// podLog serves GET pods/log from the kubelet's containerLogs.
func (p *Proxy) podLog(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	opts, err := logOptions(r.URL.Query())
	if err != nil {
		return err
	}
	if err := validateLog(req.Info.Name, opts); err != nil {
		return err
	}
	pod, container, err := podOf(req, opts.Container)
	if err != nil {
		return err
	}
	target, err := p.kubelet(r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	target.Path = strings.Join([]string{"/containerLogs", pod.Namespace, pod.Name, container}, "/")
	query := r.URL.Query()
	for _, own := range []string{"container", "pretty", "timeout", "insecureSkipTLSVerifyBackend"} {
		query.Del(own)
	}
	target.RawQuery = query.Encode()
	p.forward(w, r, p.kubelets, target, func(resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			if resp.Header.Get("Content-Type") == "" {
				resp.Header.Set("Content-Type", "text/plain")
			}
			return nil
		}
		return kubeletError(resp, pod.Name)
	})
	return nil
}

// validateLog checks log options as upstream does.
func validateLog(name string, o *corev1.PodLogOptions) error {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, name, errs)
}

// kubeletError makes a Status of a kubelet's refusal.
func kubeletError(resp *http.Response, pod string) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil {
		return fmt.Errorf("read kubelet's answer: %w", err)
	}
	if resp.StatusCode == http.StatusBadRequest {
		return apierrors.NewBadRequest(string(text))
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, resp.Request.Method, podResource, pod, string(text), 0, false)
}

func (p *Proxy) podExec(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	opts := execOptions(r.URL.Query())
	if len(opts.Command) == 0 {
		return apierrors.NewBadRequest("you must specify at least 1 command for the container")
	}
	query := streams(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY)
	query["command"] = opts.Command
	return p.stream(w, r, req, "exec", opts.Container, query)
}

func (p *Proxy) podAttach(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	opts := execOptions(r.URL.Query()) // the same without command
	return p.stream(w, r, req, "attach", opts.Container, streams(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY))
}

// streams are the kubelet's query parameters for the wanted streams
// (k8s.io/api/core/v1 ExecStdinParam and so on).
func streams(stdin, stdout, stderr, tty bool) url.Values {
	query := url.Values{}
	for name, on := range map[string]bool{
		corev1.ExecStdinParam: stdin, corev1.ExecStdoutParam: stdout, corev1.ExecStderrParam: stderr, corev1.ExecTTYParam: tty,
	} {
		if on {
			query.Set(name, "1")
		}
	}
	return query
}

func (p *Proxy) stream(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest, verb, container string, query url.Values) error {
	pod, container, err := podOf(req, container)
	if err != nil {
		return err
	}
	if err := needsUpgrade(r); err != nil {
		return err
	}
	target, err := p.kubelet(r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	target.Path = strings.Join([]string{"", verb, pod.Namespace, pod.Name, container}, "/")
	target.RawQuery = query.Encode()
	p.forward(w, r, p.kubelets, target, refused(pod.Name))
	return nil
}

func (p *Proxy) podPortForward(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	opts, err := portForwardOptions(r.URL.Query())
	if err != nil {
		return err
	}
	pod, ok := req.Parent.(*corev1.Pod)
	if !ok {
		return apierrors.NewNotFound(podResource, req.Info.Name)
	}
	if err := scheduled(pod); err != nil {
		return err
	}
	if err := needsUpgrade(r); err != nil {
		return err
	}
	target, err := p.kubelet(r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	target.Path = strings.Join([]string{"/portForward", pod.Namespace, pod.Name}, "/")
	query := url.Values{}
	for _, port := range opts.Ports {
		query.Add(corev1.PortHeader, fmt.Sprint(port))
	}
	target.RawQuery = query.Encode()
	p.forward(w, r, p.kubelets, target, refused(pod.Name))
	return nil
}

// refused turns an answer that does not switch protocols into a Status.
func refused(pod string) func(*http.Response) error {
	return func(resp *http.Response) error {
		if resp.StatusCode < http.StatusBadRequest {
			return nil
		}
		return kubeletError(resp, pod)
	}
}

func needsUpgrade(r *http.Request) error {
	if r.Header.Get("Upgrade") == "" {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	return nil
}

// podOf returns the request's Pod and the container meant.
func podOf(req handler.ConnectRequest, container string) (*corev1.Pod, string, error) {
	pod, ok := req.Parent.(*corev1.Pod)
	if !ok {
		return nil, "", apierrors.NewNotFound(podResource, req.Info.Name)
	}
	if err := scheduled(pod); err != nil {
		return nil, "", err
	}
	container, err := chooseContainer(pod, container)
	return pod, container, err
}

func scheduled(pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return nil
}

// chooseContainer checks a container name, or finds the only one. The
// annotation kubectl honours plays no part: the server follows
// upstream, where only a single container needs no name.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	if name != "" {
		for _, known := range containerNames(pod) {
			if known == name {
				return name, nil
			}
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	switch len(pod.Spec.Containers) {
	case 0:
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	case 1:
		return pod.Spec.Containers[0].Name, nil
	}
	var names, inits []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names)
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	if len(inits) > 0 {
		text += fmt.Sprintf(" or one of the init containers: %s", inits)
	}
	return "", apierrors.NewBadRequest(text)
}

func containerNames(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

// errNoTarget says that a proxied object has no address yet.
var errNoTarget = errors.New("address not allowed")

func unavailable(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable,
		Reason: metav1.StatusReasonServiceUnavailable, Message: text,
	}}
}
