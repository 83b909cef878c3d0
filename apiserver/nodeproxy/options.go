package nodeproxy

import (
	"fmt"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// query reads typed parameters and keeps the first fault.
type query struct {
	values url.Values
	err    error
}

func (q *query) text(name string) string { return q.values.Get(name) }

// flag is true for a parameter that is there, unless it says otherwise, as
// apimachinery converts query parameters.
func (q *query) flag(name string) bool {
	values, ok := q.values[name]
	return ok && values[0] != "false" && values[0] != "0"
}

func (q *query) number(name string) *int64 {
	text := q.values.Get(name)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		q.fail(name, err)
		return nil
	}
	return &n
}

func (q *query) time(name string) *metav1.Time {
	text := q.values.Get(name)
	if text == "" {
		return nil
	}
	var t metav1.Time
	if err := t.UnmarshalQueryParameter(text); err != nil {
		q.fail(name, err)
		return nil
	}
	return &t
}

func (q *query) fail(name string, err error) {
	if q.err == nil {
		q.err = apierrors.NewBadRequest(fmt.Sprintf("query parameter %s: %v", name, err))
	}
}

func logOptions(values url.Values) (*corev1.PodLogOptions, error) {
	q := &query{values: values}
	o := &corev1.PodLogOptions{
		Container: q.text("container"), Follow: q.flag("follow"), Previous: q.flag("previous"),
		SinceSeconds: q.number("sinceSeconds"), SinceTime: q.time("sinceTime"), Timestamps: q.flag("timestamps"),
		TailLines: q.number("tailLines"), LimitBytes: q.number("limitBytes"),
	}
	if stream := q.text("stream"); stream != "" {
		o.Stream = &stream
	}
	return o, q.err
}

func execOptions(values url.Values) *corev1.PodExecOptions {
	q := &query{values: values}
	return &corev1.PodExecOptions{
		Stdin: q.flag("stdin"), Stdout: q.flag("stdout"), Stderr: q.flag("stderr"), TTY: q.flag("tty"),
		Container: q.text("container"), Command: values["command"],
	}
}

func portForwardOptions(values url.Values) (*corev1.PodPortForwardOptions, error) {
	o := &corev1.PodPortForwardOptions{}
	for _, text := range values["ports"] {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("query parameter ports: %q is not a port", text))
		}
		o.Ports = append(o.Ports, int32(n))
	}
	return o, nil
}
