package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/internal/pki"
)

const (
	// objectsRetry is the pause after a try that failed.
	objectsRetry = 500 * time.Millisecond
	// parallel is how many objects are written at once: enough that etcd syncs
	// its log for several of them together.
	parallel = 16
)

// Priorities of the classes that the system reserves (API reference,
// PriorityClass).
const (
	systemClusterCritical int32 = 2000000000
	systemNodeCritical    int32 = 2000001000
)

// Objects makes the first objects through the API and keeps quiet afterwards.
// It is a Runnable with Ready.
type Objects struct {
	// Client must be in the group system:masters; required.
	Client kubernetes.Interface
	// Files are the authorities to publish; required.
	Files *Files
	// Logger; nil means slog.Default().
	Logger *slog.Logger

	done atomic.Bool
}

// Ready returns nil once all objects are there.
func (o *Objects) Ready() error {
	if !o.done.Load() {
		return errors.New("first objects are not written yet")
	}
	return nil
}

// Run tries until all objects are there, then waits for ctx.
func (o *Objects) Run(ctx context.Context) error {
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := o.Apply(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			log.Warn("cannot write first objects yet", "err", err)
		}
		timer.Reset(objectsRetry)
	}
	o.done.Store(true)
	log.Info("first objects are there", "took", time.Since(begun))
	<-ctx.Done()
	return nil
}

// Apply makes what is missing and repairs what upstream's rules say to repair.
func (o *Objects) Apply(ctx context.Context) error {
	if err := o.ensureNamespaces(ctx); err != nil {
		return err
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return ensureRBAC(ctx, o.Client.RbacV1()) })
	tasks.Go(func() error { return o.ensurePriorityClasses(ctx) })
	tasks.Go(func() error { return o.ensureConfigMaps(ctx) })
	return tasks.Wait()
}

func (o *Objects) ensureNamespaces(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	for _, name := range Namespaces {
		tasks.Go(func() error {
			_, err := o.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				_, err = o.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			}
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("ensure namespace %s: %w", name, err)
			}
			return nil
		})
	}
	return tasks.Wait()
}

func (o *Objects) ensurePriorityClasses(ctx context.Context) error {
	for _, class := range []schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: systemNodeCritical,
			Description: "Used for system critical pods that must not be moved from their current node."},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: systemClusterCritical,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
	} {
		classes := o.Client.SchedulingV1().PriorityClasses()
		_, err := classes.Get(ctx, class.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = classes.Create(ctx, &class, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("ensure priority class %s: %w", class.Name, err)
		}
	}
	return nil
}

func (o *Objects) ensureConfigMaps(ctx context.Context) error {
	info, err := pki.Kubeconfig{Server: o.Files.config.Server, CA: o.Files.CABundle}.EncodeCluster()
	if err != nil {
		return err
	}
	if err := o.ensureConfigMap(ctx, metav1.NamespacePublic, clusterInfoMap, map[string]string{"kubeconfig": string(info)}); err != nil {
		return err
	}
	return o.ensureConfigMap(ctx, metav1.NamespaceSystem, authConfigMap, map[string]string{
		"client-ca-file":                     string(o.Files.CABundle),
		"requestheader-client-ca-file":       string(o.Files.FrontProxyBundle),
		"requestheader-allowed-names":        `["front-proxy-client"]`,
		"requestheader-username-headers":     `["X-Remote-User"]`,
		"requestheader-uid-headers":          `["X-Remote-Uid"]`,
		"requestheader-group-headers":        `["X-Remote-Group"]`,
		"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	})
}

// ensureConfigMap sets keys and leaves others (signatures of cluster-info) alone.
func (o *Objects) ensureConfigMap(ctx context.Context, namespace, name string, data map[string]string) error {
	maps := o.Client.CoreV1().ConfigMaps(namespace)
	existing, err := maps.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("publish %s/%s: %w", namespace, name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("publish %s/%s: %w", namespace, name, err)
	}
	wanted := existing.DeepCopy()
	if wanted.Data == nil {
		wanted.Data = map[string]string{}
	}
	for key, value := range data {
		wanted.Data[key] = value
	}
	if equality.Semantic.DeepEqual(existing, wanted) {
		return nil
	}
	if _, err := maps.Update(ctx, wanted, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("publish %s/%s: %w", namespace, name, err)
	}
	return nil
}
