package handler_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/filter"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/route"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
)

// configMaps is the simplest kind there is.
func configMaps() *resource.Definition {
	return &resource.Definition{
		Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: "configmaps", ShortNames: []string{"cm"},
		Namespaced: true, AllowUnconditionalUpdate: true,
		New:     func() runtime.Object { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
		Validate: func(obj runtime.Object) (errs field.ErrorList) {
			if obj.(*corev1.ConfigMap).Data["bad"] != "" {
				errs = append(errs, field.Invalid(field.NewPath("data", "bad"), "x", "must be empty"))
			}
			return errs
		},
	}
}

// pods have status, grace and fields.
func pods() *resource.Definition {
	return &resource.Definition{
		Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: "pods", ShortNames: []string{"po"},
		Categories: []string{"all"}, Namespaced: true, AllowUnconditionalUpdate: true,
		New:     func() runtime.Object { return &corev1.Pod{} },
		NewList: func() runtime.Object { return &corev1.PodList{} },
		Default: func(obj runtime.Object) {
			if p := obj.(*corev1.Pod); p.Spec.RestartPolicy == "" {
				p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			}
		},
		PrepareCreate: func(obj runtime.Object) {
			p := obj.(*corev1.Pod)
			p.Generation = 1
			p.Status = corev1.PodStatus{Phase: corev1.PodPending}
		},
		PrepareUpdate: func(obj, old runtime.Object) { obj.(*corev1.Pod).Status = old.(*corev1.Pod).Status },
		DeleteGrace: func(_ runtime.Object, requested *int64) (int64, bool) {
			if requested != nil {
				return *requested, true
			}
			return 30, true
		},
		Fields: func(obj runtime.Object) map[string]string {
			return map[string]string{"spec.nodeName": obj.(*corev1.Pod).Spec.NodeName}
		},
		Status: &resource.StatusUpdate{Prepare: func(obj, old runtime.Object) {
			obj.(*corev1.Pod).Spec = old.(*corev1.Pod).Spec
			obj.(*corev1.Pod).Labels = old.(*corev1.Pod).Labels
		}},
	}
}

type everybody struct{}

func (everybody) Authenticate(*http.Request) (authn.User, bool, error) {
	return authn.User{Name: "tester", Groups: []string{authn.GroupAuthenticated}}, true, nil
}

func (everybody) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	if a.Namespace == "forbidden" {
		return authz.NoOpinion, "", nil
	}
	return authz.Allow, "", nil
}

type fixture struct {
	server *httptest.Server
	client kubernetes.Interface
	config *rest.Config
	stores map[schema.GroupResource]store.Store
}

// start serves the test kinds through all filters, as a real server does.
func start(t *testing.T, contentType string) *fixture {
	t.Helper()
	return startWith(t, contentType, []*resource.Definition{configMaps(), pods()})
}

func startWith(t *testing.T, contentType string, definitions []*resource.Definition) *fixture {
	t.Helper()
	revisions := &memory.Revisions{}
	f := &fixture{stores: map[schema.GroupResource]store.Store{}}
	for _, d := range definitions {
		f.stores[d.GroupVersionResource().GroupResource()] = memory.New(memory.Config{Revisions: revisions})
	}
	logger := slog.New(slog.DiscardHandler)
	set, err := handler.New(handler.Config{
		Definitions: definitions, Stores: f.stores, Logger: logger,
		TypeConverter: applyconfigurations.NewTypeConverter(codec.Scheme),
	})
	if err != nil {
		t.Fatal(err)
	}
	router, err := route.New(route.Config{Definitions: definitions, Kinds: set, Version: version.Info{GitVersion: "v1.37.2+skeg"}})
	if err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewServer(filter.Chain(filter.Config{
		Authenticator: everybody{}, Authorizer: everybody{}, RequestTimeout: time.Minute,
		MaxInFlight: 100, MaxMutatingInFlight: 100, Metrics: filter.RegisterMetrics(), Logger: logger,
	}, router))
	t.Cleanup(f.server.Close)
	f.config = &rest.Config{Host: f.server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: contentType}}
	f.client, err = kubernetes.NewForConfig(f.config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
