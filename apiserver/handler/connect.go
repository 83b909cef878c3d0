package handler

import (
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// connect hands the request to the subresource's Connector.
func (c *call) connect(sub *resource.Subresource) error {
	// A proxy passes OPTIONS through too, which is no verb of discovery.
	passed := sub.Name == "proxy" && c.r.Method == http.MethodOptions
	if len(sub.Verbs) > 0 && !slices.Contains(sub.Verbs, c.info.Verb) && !passed {
		return c.notAllowed()
	}
	parent, err := c.parent()
	if err != nil {
		return err
	}
	a := c.attributes(admission.Connect, nil, nil, nil, false)
	if err := c.admit.mutate(c.ctx, a); err != nil {
		return err
	}
	if err := c.admit.validate(c.ctx, a); err != nil {
		return err
	}
	connector := c.config.Connectors[c.subKey()]
	return connector.Connect(c.w, c.r, ConnectRequest{Info: c.info, User: c.user, Parent: parent}) //nolint:wrapcheck // a Status
}

// parent is the stored object of a subresource. Proxied names may have the
// form [scheme:]name[:port], which is the connector's to read; it is then nil.
func (c *call) parent() (resource.Object, error) {
	item, err := c.store.Get(c.ctx, c.key(), store.Consistency{AtLeast: store.Latest})
	if err != nil {
		if c.info.Subresource == "proxy" {
			return nil, nil //nolint:nilnil,nilerr // as documented
		}
		return nil, err //nolint:wrapcheck // mapped by statusError
	}
	return c.served(item)
}

// subAction answers a body posted to a subresource that stores nothing.
func (c *call) subAction(sub *resource.Subresource) error {
	opts := &metav1.CreateOptions{}
	if err := c.parameters(opts); err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", validation.ValidateCreateOptions(opts)); err != nil {
		return err
	}
	if sub.New == nil || c.config.Actions[c.subKey()] == nil {
		return c.notAllowed()
	}
	body, err := c.body(sub.Kind, sub.New(), opts.FieldValidation)
	if err != nil {
		return err
	}
	if named, ok := body.(metav1.Object); ok {
		if err := c.matchName(named); err != nil {
			return err
		}
	}
	return c.act(body, sub.Kind, c.subKey(), opts)
}

// act runs an Action on a decoded body and answers with its outcome.
func (c *call) act(body runtime.Object, kind schema.GroupVersionKind, key string, opts *metav1.CreateOptions) error {
	action := c.config.Actions[key]
	if action == nil {
		return c.notAllowed()
	}
	req := ActionRequest{
		User: c.user, Namespace: c.info.Namespace, Name: c.info.Name, Object: body, DryRun: len(opts.DryRun) > 0,
	}
	if c.info.Subresource != "" {
		parent, err := c.parent()
		if err != nil {
			return err
		}
		req.Parent = parent
	} else if c.def.Validate != nil {
		if err := invalid(kind, body, c.def); err != nil {
			return err
		}
	}
	a := c.attributes(admission.Create, body, nil, opts, req.DryRun)
	if err := c.admit.mutate(c.ctx, a); err != nil {
		return err
	}
	if err := c.admit.validate(c.ctx, a); err != nil {
		return err
	}
	answer, err := action.Act(c.ctx, req)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	if _, ok := answer.(*metav1.Status); ok {
		kind = codec.StatusKind
	}
	c.respondObject(http.StatusCreated, answer, kind)
	return nil
}

func invalid(kind schema.GroupVersionKind, body runtime.Object, d *resource.Definition) error {
	errs := d.Validate(body)
	if len(errs) == 0 {
		return nil
	}
	name := ""
	if m, ok := body.(metav1.Object); ok {
		name = m.GetName()
	}
	return apierrors.NewInvalid(kind.GroupKind(), name, errs)
}

func yamlToJSON(body []byte) ([]byte, error) {
	out, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	return out, nil
}
