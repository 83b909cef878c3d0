package core

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ServiceAccount defines the kind.
func ServiceAccount() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Resource:                 "serviceaccounts",
		ShortNames:               []string{"sa"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.ServiceAccount{} },
		NewList:                  func() runtime.Object { return &corev1.ServiceAccountList{} },
		AllowUnconditionalUpdate: true,
		Columns:                  []column.Definition{column.Name(), column.Number("Secrets", corev1.ServiceAccount{}.SwaggerDoc()["secrets"]), column.Age()},
		Row: typed.Row(func(sa *corev1.ServiceAccount, now metav1.Time) []any {
			return []any{sa.Name, int64(len(sa.Secrets)), column.Since(sa.CreationTimestamp, now)}
		}),
		Subresources: []resource.Subresource{{
			Name:    "token",
			Kind:    authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
			New:     func() runtime.Object { return &authenticationv1.TokenRequest{} },
			Verbs:   []string{"create"},
			Connect: true,
		}},
	}
}
