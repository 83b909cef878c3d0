package app

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skeg-dev/skeg/kubelet/eviction"
)

func parseIPs(text string) ([]netip.Addr, error) {
	if text == "" {
		return nil, nil
	}
	var out []netip.Addr
	for _, part := range strings.Split(text, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not an address", part)
		}
		out = append(out, ip)
	}
	return out, nil
}

// parseTaints reads key=value:effect and key:effect.
func parseTaints(list []string) ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, text := range list {
		if text == "" {
			continue
		}
		name, effect, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("%q has no effect (key=value:effect)", text)
		}
		switch corev1.TaintEffect(effect) {
		case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			return nil, fmt.Errorf("%q is not an effect", effect)
		}
		key, value, _ := strings.Cut(name, "=")
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out, nil
}

func formatTaint(t corev1.Taint) string {
	return t.Key + "=" + t.Value + ":" + string(t.Effect)
}

func parseReserved(in map[string]string) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	for name, text := range in {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		case "pid":
			continue // counted by nothing here
		default:
			return nil, fmt.Errorf("%q cannot be reserved", name)
		}
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", name, text, err)
		}
		if quantity.Sign() < 0 {
			return nil, fmt.Errorf("%s=%s: must not be negative", name, text)
		}
		out[corev1.ResourceName(name)] = quantity
	}
	return out, nil
}

func parseBytes(text string) (int64, error) {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, err
	}
	if quantity.Sign() <= 0 {
		return 0, fmt.Errorf("%s is not positive", text)
	}
	return quantity.Value(), nil
}

// thresholds is the value of --eviction-hard.
type thresholds struct{ to *map[string]string }

// Set replaces the defaults.
func (t *thresholds) Set(text string) error {
	out := map[string]string{}
	for _, part := range strings.Split(text, ",") {
		if part == "" {
			continue
		}
		signal, value, ok := strings.Cut(part, "<")
		if !ok {
			return fmt.Errorf("%q is not of the form signal<quantity", part)
		}
		out[strings.TrimSpace(signal)] = strings.TrimSpace(value)
	}
	*t.to = out
	return nil
}

// String prints them in order.
func (t *thresholds) String() string {
	if t.to == nil {
		return ""
	}
	var parts []string
	for _, signal := range slices.Sorted(maps.Keys(*t.to)) {
		parts = append(parts, signal+"<"+(*t.to)[signal])
	}
	return strings.Join(parts, ",")
}

// Type names the value in help.
func (*thresholds) Type() string { return "thresholds" }

// thresholds converts --eviction-hard.
func (o *Options) thresholds() ([]eviction.Threshold, error) {
	var out []eviction.Threshold
	for _, signal := range slices.Sorted(maps.Keys(o.EvictionHard)) {
		text := o.EvictionHard[signal]
		threshold := eviction.Threshold{Signal: eviction.Signal(signal)}
		if !threshold.Signal.Known() {
			return nil, fmt.Errorf("%q is not a signal", signal)
		}
		if percent, ok := strings.CutSuffix(text, "%"); ok {
			value, err := strconv.ParseFloat(percent, 64)
			if err != nil || value < 0 || value > 100 {
				return nil, fmt.Errorf("%s<%s: not a percentage", signal, text)
			}
			threshold.Percent = value
		} else {
			quantity, err := resource.ParseQuantity(text)
			if err != nil {
				return nil, fmt.Errorf("%s<%s: %w", signal, text, err)
			}
			threshold.Amount = quantity.Value()
		}
		out = append(out, threshold)
	}
	return out, nil
}

// reserved is what Pods do not get: the system's, Kubernetes' and what
// evictions keep free.
func (o *Options) reserved(capacity corev1.ResourceList) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	add := func(name corev1.ResourceName, quantity resource.Quantity) {
		sum := out[name]
		sum.Add(quantity)
		out[name] = sum
	}
	for _, list := range []map[string]string{o.SystemReserved, o.KubeReserved} {
		parsed, err := parseReserved(list)
		if err != nil {
			return nil, err
		}
		for name, quantity := range parsed {
			add(name, quantity)
		}
	}
	limits, err := o.thresholds()
	if err != nil {
		return nil, err
	}
	for _, limit := range limits {
		var name corev1.ResourceName
		switch limit.Signal {
		case eviction.MemoryAvailable:
			name = corev1.ResourceMemory
		case eviction.NodeFSAvailable:
			name = corev1.ResourceEphemeralStorage
		default:
			continue
		}
		all := capacity[name]
		add(name, *resource.NewQuantity(limit.Value(all.Value()), resource.BinarySI))
	}
	return out, nil
}
