package bootstrap

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

const (
	kubernetesService = "kubernetes"
	// serviceInterval is how often the Service is looked at (upstream's value).
	serviceInterval = 10 * time.Second
	// servicePort is that of the Service; portName that of the port.
	servicePort int32 = 443
	portName          = "https"
)

// KubernetesService keeps the Service default/kubernetes, its Endpoints and
// its EndpointSlice pointing at this API server, and publishes the ranges that
// Services get addresses from. It is a Runnable.
type KubernetesService struct {
	// Client must be in the group system:masters; required.
	Client kubernetes.Interface
	// ServiceIP is the first address of the service range; required.
	ServiceIP net.IP
	// ServiceCIDRs are the Service ranges to publish, the primary family first;
	// none are published when empty.
	ServiceCIDRs []string
	// Address and Port are where this server is reached; required.
	Address net.IP
	Port    int32
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Run looks and repairs until ctx ends. The endpoints stay on a stop: with one
// server there is nothing better to point at.
func (k *KubernetesService) Run(ctx context.Context) error {
	log := k.logger()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := serviceInterval
		if err := k.Reconcile(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot keep the kubernetes service", "err", err)
			pause = objectsRetry
		}
		timer.Reset(pause)
	}
}

func (k *KubernetesService) logger() *slog.Logger {
	if k.Logger == nil {
		return slog.Default()
	}
	return k.Logger
}

// Reconcile makes the objects as they should be.
func (k *KubernetesService) Reconcile(ctx context.Context) error {
	if err := k.reconcileServiceCIDR(ctx, k.logger()); err != nil {
		return fmt.Errorf("ensure service CIDR: %w", err)
	}
	if err := k.reconcileService(ctx); err != nil {
		return fmt.Errorf("ensure service: %w", err)
	}
	if err := k.reconcileEndpoints(ctx); err != nil {
		return fmt.Errorf("ensure endpoints: %w", err)
	}
	if err := k.reconcileSlice(ctx); err != nil {
		return fmt.Errorf("ensure endpoint slice: %w", err)
	}
	return nil
}

func (k *KubernetesService) reconcileService(ctx context.Context) error {
	services := k.Client.CoreV1().Services(metav1.NamespaceDefault)
	ports := []corev1.ServicePort{{Name: portName, Port: servicePort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(k.Port)}}
	existing, err := services.Get(ctx, kubernetesService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: metav1.NamespaceDefault, Name: kubernetesService,
				Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: k.ServiceIP.String(), ClusterIPs: []string{k.ServiceIP.String()},
				IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack), IPFamilies: []corev1.IPFamily{familyOf(k.ServiceIP)},
				SessionAffinity: corev1.ServiceAffinityNone, Ports: ports,
			},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil || equality.Semantic.DeepEqual(existing.Spec.Ports, ports) {
		return err
	}
	changed := existing.DeepCopy()
	changed.Spec.Ports = ports
	_, err = services.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

func (k *KubernetesService) reconcileEndpoints(ctx context.Context) error {
	//nolint:staticcheck // deprecated upstream, but clients still read it
	endpoints := k.Client.CoreV1().Endpoints(metav1.NamespaceDefault)
	wanted := []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: k.Address.String()}},
		Ports:     []corev1.EndpointPort{{Name: portName, Port: k.Port, Protocol: corev1.ProtocolTCP}},
	}}
	// The slice is kept here: mirroring it would make a second one.
	const skipMirror = discoveryv1.LabelSkipMirror
	existing, err := endpoints.Get(ctx, kubernetesService, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = endpoints.Create(ctx, &corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: kubernetesService, Labels: map[string]string{skipMirror: "true"}},
			Subsets:    wanted,
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil || (existing.Labels[skipMirror] == "true" && equality.Semantic.DeepEqual(existing.Subsets, wanted)) {
		return err
	}
	changed := existing.DeepCopy()
	changed.Subsets = wanted
	changed.Labels = overlay(changed.Labels, map[string]string{skipMirror: "true"})
	_, err = endpoints.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

func (k *KubernetesService) reconcileSlice(ctx context.Context) error {
	slices := k.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	wanted := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: kubernetesService,
			Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesService},
		},
		AddressType: discoveryv1.AddressType(familyOf(k.Address)),
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{k.Address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To(portName), Port: ptr.To(k.Port), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	existing, err := slices.Get(ctx, kubernetesService, metav1.GetOptions{})
	if err == nil && existing.AddressType != wanted.AddressType {
		// The type of a slice cannot change.
		if err := slices.Delete(ctx, kubernetesService, metav1.DeleteOptions{}); err != nil {
			return err
		}
		err = apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), kubernetesService)
	}
	if apierrors.IsNotFound(err) {
		_, err = slices.Create(ctx, wanted, metav1.CreateOptions{})
		return err
	}
	if err != nil || sameSlice(existing, wanted) {
		return err
	}
	changed := existing.DeepCopy()
	changed.Endpoints, changed.Ports = wanted.Endpoints, wanted.Ports
	changed.Labels = overlay(changed.Labels, wanted.Labels)
	_, err = slices.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}

// sameSlice compares what was asked for, so that defaults filled in by the
// server are no difference.
func sameSlice(existing, wanted *discoveryv1.EndpointSlice) bool {
	return existing.Labels[discoveryv1.LabelServiceName] == kubernetesService &&
		equality.Semantic.DeepEqual(existing.Ports, wanted.Ports) &&
		len(existing.Endpoints) == 1 &&
		equality.Semantic.DeepEqual(existing.Endpoints[0].Addresses, wanted.Endpoints[0].Addresses) &&
		ptr.Deref(existing.Endpoints[0].Conditions.Ready, false)
}

func familyOf(ip net.IP) corev1.IPFamily {
	if ip.To4() != nil {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
