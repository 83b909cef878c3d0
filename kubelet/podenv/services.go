package podenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Services watches all Services, of which it keeps little.
type Services struct {
	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
}

// NewServices returns a watch that Run starts.
func NewServices(client kubernetes.Interface) (*Services, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Services().Informer()
	if err := informer.SetTransform(stripService); err != nil {
		return nil, fmt.Errorf("set up service informer: %w", err)
	}
	return &Services{factory: factory, informer: informer}, nil
}

// Run watches until ctx ends.
func (s *Services) Run(ctx context.Context) error {
	s.factory.StartWithContext(ctx)
	<-ctx.Done()
	s.factory.Shutdown()
	return nil
}

// Ready is nil once all Services have been read.
func (s *Services) Ready() error {
	if !s.informer.HasSynced() {
		return errors.New("services have not yet been read at least once, cannot construct envvars")
	}
	return nil
}

// List returns the namespace's Services, sorted by name.
func (s *Services) List(namespace string) ([]*corev1.Service, error) {
	if err := s.Ready(); err != nil {
		return nil, err
	}
	objs, err := s.informer.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	var out []*corev1.Service
	for _, obj := range objs {
		if service, ok := obj.(*corev1.Service); ok {
			out = append(out, service)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func stripService(obj any) (any, error) {
	service, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name, UID: service.UID, ResourceVersion: service.ResourceVersion},
		Spec:       corev1.ServiceSpec{ClusterIP: service.Spec.ClusterIP, Ports: service.Spec.Ports},
	}, nil
}

// serviceVariables are those of the API server's Service, and of all Services
// in the Pod's namespace unless it does without.
func (b *Builder) serviceVariables(pod *corev1.Pod) (*variables, error) {
	out := &variables{values: map[string]string{}}
	if b.config.Services == nil {
		return out, nil
	}
	masters, err := b.config.Services.List(metav1.NamespaceDefault)
	if err != nil {
		return nil, err
	}
	for _, s := range masters {
		if s.Name == "kubernetes" {
			addService(out, s)
		}
	}
	if links := pod.Spec.EnableServiceLinks; links != nil && !*links {
		return out, nil
	}
	services, err := b.config.Services.List(pod.Namespace)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		addService(out, s)
	}
	return out, nil
}

// addService adds the variables documented in "Discovering services" and the
// older form of Docker's links.
func addService(to *variables, s *corev1.Service) {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	name := variableName(s.Name)
	host := s.Spec.ClusterIP
	to.set(name+"_SERVICE_HOST", host)
	to.set(name+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			to.set(name+"_SERVICE_PORT_"+variableName(p.Name), strconv.Itoa(int(p.Port)))
		}
	}
	bracketed := host
	if strings.Contains(host, ":") {
		bracketed = "[" + host + "]"
	}
	for i, p := range s.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		port := strconv.Itoa(int(p.Port))
		url := strings.ToLower(string(protocol)) + "://" + bracketed + ":" + port
		if i == 0 {
			to.set(name+"_PORT", url)
		}
		prefix := name + "_PORT_" + port + "_" + string(protocol)
		to.set(prefix, url)
		to.set(prefix+"_PROTO", strings.ToLower(string(protocol)))
		to.set(prefix+"_PORT", port)
		to.set(prefix+"_ADDR", host)
	}
}

func variableName(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
