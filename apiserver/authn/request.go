package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Authenticator finds out who sent a request. ok is false when the request
// carries nothing that this method understands (err is nil then) or something
// it refuses (err says why). Implementations are safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (u User, ok bool, err error)
}

// Reader reads stored objects; admission.Reader is one. Get may be a moment
// behind, GetLatest is not. Missing objects are an API NotFound error.
type Reader interface {
	Get(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error)
	GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error)
}

// ErrNoCredentials is returned by Union when the request carries none and
// nobody may be anonymous there.
var ErrNoCredentials = errors.New("no credentials")

// Union asks its methods in order; the first who knows the user decides.
// Everybody but the anonymous user is put into system:authenticated.
type Union struct {
	// Methods in order; required.
	Methods []Authenticator
}

// NewUnion returns the union of methods in order.
func NewUnion(methods ...Authenticator) *Union { return &Union{Methods: methods} }

// Authenticate returns the user, or ok == false and the reasons: credentials
// that were refused are never ignored in favour of the anonymous user.
func (u *Union) Authenticate(r *http.Request) (User, bool, error) {
	var refused []error
	for _, method := range u.Methods {
		if _, anonymous := method.(*anonymous); anonymous && len(refused) > 0 {
			break
		}
		user, ok, err := method.Authenticate(r)
		if ok {
			return authenticated(user), true, nil
		}
		if err != nil {
			refused = append(refused, err)
		}
	}
	if len(refused) == 0 {
		return User{}, false, ErrNoCredentials
	}
	return User{}, false, errors.Join(refused...)
}

// authenticated adds the group of everybody who is somebody.
func authenticated(u User) User {
	if u.Name == Anonymous || u.InGroup(GroupUnauthenticated) || u.InGroup(GroupAuthenticated) {
		return u
	}
	u.Groups = append(slices.Clone(u.Groups), GroupAuthenticated)
	return u
}

// AnonymousPaths are those that anybody may ask for (DESIGN, section 4). The
// last is what a node that joins by token learns the cluster's authority from;
// RBAC lets it be read and no more.
var AnonymousPaths = []string{
	"/livez", "/readyz", "/healthz", "/version",
	"/api/v1/namespaces/kube-public/configmaps/cluster-info",
}

type anonymous struct{ paths []string }

// NewAnonymous lets requests without credentials be system:anonymous on the
// given paths and what is below them. It must be the last method of a Union.
func NewAnonymous(paths []string) Authenticator { return &anonymous{paths: paths} }

// Authenticate answers for the listed paths only.
func (a *anonymous) Authenticate(r *http.Request) (User, bool, error) {
	if r.Header.Get("Authorization") != "" {
		return User{}, false, nil // something was tried: not anonymous
	}
	for _, path := range a.paths {
		if r.URL.Path == path || strings.HasPrefix(r.URL.Path, path+"/") {
			return User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}, true, nil
		}
	}
	return User{}, false, nil
}
