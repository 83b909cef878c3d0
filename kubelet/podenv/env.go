package podenv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/kubelet/podenv/fieldref"
)

// variables keeps the order in which names were first set.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) set(name, value string) {
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

// Env is the container's own environment ("K=V"): envFrom, then env, with
// $(NAME) replaced by what came before, and variables for Services where
// nothing else has the name. An error names what is missing.
func (b *Builder) Env(ctx context.Context, pod *corev1.Pod, c *corev1.Container, facts Facts) ([]string, error) {
	services, err := b.serviceVariables(pod)
	if err != nil {
		return nil, err
	}
	own := &variables{values: map[string]string{}}
	for i := range c.EnvFrom {
		if err := b.addFrom(ctx, own, pod.Namespace, &c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	lookup := func(name string) (string, bool) {
		if value, ok := own.values[name]; ok {
			return value, true
		}
		value, ok := services.values[name]
		return value, ok
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.ValueFrom == nil {
			own.set(e.Name, expand(e.Value, lookup))
			continue
		}
		value, ok, err := b.valueFrom(ctx, pod, c, e.ValueFrom, facts)
		if err != nil {
			return nil, err
		}
		if ok {
			own.set(e.Name, value)
		}
	}
	for _, name := range services.names {
		if _, ok := own.values[name]; !ok {
			own.set(name, services.values[name])
		}
	}
	out := make([]string, len(own.names))
	for i, name := range own.names {
		out[i] = name + "=" + own.values[name]
	}
	return out, nil
}

// addFrom adds all keys of a ConfigMap or Secret that can be names.
func (b *Builder) addFrom(ctx context.Context, to *variables, namespace string, from *corev1.EnvFromSource) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		ref := from.ConfigMapRef
		cm, err := b.config.Objects.ConfigMap(ctx, namespace, ref.Name)
		if err != nil {
			return orOptional(err, ref.Optional)
		}
		data = cm.Data
	case from.SecretRef != nil:
		ref := from.SecretRef
		secret, err := b.config.Objects.Secret(ctx, namespace, ref.Name)
		if err != nil {
			return orOptional(err, ref.Optional)
		}
		for k, v := range secret.Data {
			data[k] = string(v)
		}
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if name := from.Prefix + k; usableName(name) {
			to.set(name, data[k])
		}
	}
	return nil
}

// usableName: printable ASCII without "=" (EnvVar.name in the API reference).
func usableName(name string) bool {
	for _, c := range []byte(name) {
		if c < 0x20 || c > 0x7e || c == '=' {
			return false
		}
	}
	return name != ""
}

func orOptional(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	return err
}

// valueFrom reads one value; false if it is optional and missing.
func (b *Builder) valueFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource, facts Facts) (string, bool, error) {
	switch {
	case from.FieldRef != nil:
		value, err := b.field(pod, from.FieldRef.FieldPath, facts)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err := b.resource(pod, c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := b.config.Objects.ConfigMap(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return "", false, orOptional(err, ref.Optional)
		}
		if value, ok := cm.Data[ref.Key]; ok {
			return value, true, nil
		}
		return missingKey(ref.Optional, ref.Key, "ConfigMap", pod.Namespace, ref.Name)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := b.config.Objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return "", false, orOptional(err, ref.Optional)
		}
		if value, ok := secret.Data[ref.Key]; ok {
			return string(value), true, nil
		}
		return missingKey(ref.Optional, ref.Key, "Secret", pod.Namespace, ref.Name)
	default:
		return "", false, fmt.Errorf("source of an environment variable of container %s is not supported", c.Name)
	}
}

func missingKey(optional *bool, key, kind, namespace, name string) (string, bool, error) {
	if optional != nil && *optional {
		return "", false, nil
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

func (b *Builder) field(pod *corev1.Pod, path string, facts Facts) (string, error) {
	switch path {
	case "spec.nodeName":
		if pod.Spec.NodeName == "" {
			return b.config.NodeName, nil
		}
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(facts.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(facts.HostIPs, ","), nil
	case "status.podIP":
		return first(facts.IPs), nil
	case "status.podIPs":
		return strings.Join(facts.IPs, ","), nil
	default:
		return fieldref.Metadata(pod, path)
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (b *Builder) resource(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" && ref.ContainerName != c.Name {
		found := false
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if list[i].Name == ref.ContainerName {
					c, found = &list[i], true
				}
			}
		}
		if !found {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
	}
	return fieldref.Resource(c, ref.Resource, ref.Divisor, b.config.Allocatable())
}

// expand replaces $(NAME); "$$" is a dollar sign, and a name that nobody set
// stays as it is (API reference, EnvVar.value).
func expand(in string, lookup func(string) (string, bool)) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(in, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			in = rest[1:]
		case strings.HasPrefix(rest, "("):
			name, after, closed := strings.Cut(rest[1:], ")")
			if !closed {
				out.WriteByte('$')
				in = rest
				continue
			}
			if value, ok := lookup(name); ok {
				out.WriteString(value)
			} else {
				out.WriteString("$(" + name + ")")
			}
			in = after
		default:
			out.WriteByte('$')
			in = rest
		}
	}
}
