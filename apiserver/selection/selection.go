// Package selection reads what a list, watch or deletecollection request
// selects: label and field selectors, resource version rules and continue
// tokens, in upstream's encodings. It is pure; the handlers call it.
package selection

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Options are a request's ListOptions with parsed selectors.
type Options = internalversion.ListOptions

// ParseOptions reads and checks ListOptions. The errors are API status errors.
func ParseOptions(query url.Values) (*Options, error) {
	opts := &Options{}
	if err := internalscheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, opts); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	internalversion.SetListOptionsDefaults(opts, true)
	if errs := validation.ValidateListOptions(opts, true); len(errs) > 0 {
		kind := schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}
		return nil, apierrors.NewInvalid(kind, "", errs)
	}
	if opts.Limit < 0 {
		return nil, apierrors.NewBadRequest("limit must not be negative")
	}
	return opts, nil
}

// Predicate decides whether an object is selected. The zero value selects all.
type Predicate struct {
	labels labels.Selector
	fields fields.Selector
	values func(obj resource.Object) fields.Set
}

// NewPredicate builds the predicate of opts for a kind; name, when not "", is
// a further condition on metadata.name. A field label the kind does not
// support is a 400.
func NewPredicate(d *resource.Definition, opts *Options, name string) (Predicate, error) {
	p := Predicate{values: func(obj resource.Object) fields.Set { return FieldsOf(d, obj) }}
	if opts.LabelSelector != nil && !opts.LabelSelector.Empty() {
		p.labels = opts.LabelSelector
	}
	if opts.FieldSelector != nil && !opts.FieldSelector.Empty() {
		if err := checkLabels(d, opts.FieldSelector); err != nil {
			return p, err
		}
		p.fields = opts.FieldSelector
	}
	if name != "" {
		exact := fields.OneTermEqualSelector("metadata.name", name)
		if p.fields != nil {
			exact = fields.AndSelectors(p.fields, exact)
		}
		p.fields = exact
	}
	return p, nil
}

func checkLabels(d *resource.Definition, s fields.Selector) error {
	empty, ok := d.New().(resource.Object)
	if !ok {
		return apierrors.NewBadRequest("field selectors are not supported")
	}
	known := FieldsOf(d, empty)
	for _, requirement := range s.Requirements() {
		if _, ok := known[requirement.Field]; !ok {
			return apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", requirement.Field))
		}
	}
	return nil
}

// Requires returns the one value a field must have to be selected; "" when
// others may be.
func (p Predicate) Requires(name string) string {
	if p.fields == nil {
		return ""
	}
	value, _ := p.fields.RequiresExactMatch(name)
	return value
}

// FieldsOf returns an object's field-selector values.
func FieldsOf(d *resource.Definition, obj resource.Object) fields.Set {
	set := fields.Set{}
	if d.Fields != nil {
		for k, v := range d.Fields(obj) {
			set[k] = v
		}
	}
	set["metadata.name"] = obj.GetName()
	if d.Namespaced {
		set["metadata.namespace"] = obj.GetNamespace()
	}
	return set
}

// Everything says that no object is refused.
func (p Predicate) Everything() bool { return p.labels == nil && p.fields == nil }

// Matches says whether obj is selected. Safe for concurrent use.
func (p Predicate) Matches(obj resource.Object) bool {
	if p.labels != nil && !p.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	return p.fields == nil || p.fields.Matches(p.values(obj))
}

// token is a continue token's content (upstream's storage.EncodeContinue).
type token struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

const tokenVersion = "meta.k8s.io/v1"

// EncodeContinue returns the token that continues after lastKey, a key below
// prefix, at a revision; revision -1 continues in the latest state.
func EncodeContinue(prefix, lastKey string, revision int64) (string, error) {
	out, err := json.Marshal(token{Version: tokenVersion, Revision: revision, Start: strings.TrimPrefix(lastKey, prefix) + "\x00"})
	if err != nil {
		return "", fmt.Errorf("encode continue token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(out), nil
}

// DecodeContinue returns the key to continue after and the revision to read
// at. The error is a 400.
func DecodeContinue(value, prefix string) (after string, revision int64, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return "", 0, badContinue(err)
	}
	var t token
	if err := json.Unmarshal(raw, &t); err != nil {
		return "", 0, badContinue(err)
	}
	switch {
	case t.Version != tokenVersion:
		return "", 0, badContinue(fmt.Errorf("server does not recognize this encoded version %q", t.Version))
	case t.Revision == 0:
		return "", 0, badContinue(fmt.Errorf("incorrect encoded start resourceVersion (version %s)", t.Version))
	case t.Start == "" || strings.Contains(t.Start, "..") || strings.HasPrefix(t.Start, "/"):
		return "", 0, badContinue(fmt.Errorf("invalid start key %q", t.Start))
	}
	return prefix + strings.TrimSuffix(t.Start, "\x00"), t.Revision, nil
}

func badContinue(err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
}

// Read is where a list reads.
type Read struct {
	store.Consistency
	// After continues a list, "" starts one.
	After string
}

// ListRead applies the resource version rules of a list (API reference,
// "Resource versions"). The errors are API status errors.
func ListRead(opts *Options, prefix string) (Read, error) {
	var read Read
	if opts.Continue != "" {
		if opts.ResourceVersion != "" && opts.ResourceVersion != "0" {
			return read, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		after, revision, err := DecodeContinue(opts.Continue, prefix)
		if err != nil {
			return read, err
		}
		read.After = after
		if revision > 0 {
			read.Exactly = revision
		} else {
			read.AtLeast = store.Latest
		}
		return read, nil
	}
	if opts.ResourceVersion == "" {
		read.AtLeast = store.Latest
		return read, nil
	}
	revision, err := ParseRevision(opts.ResourceVersion)
	if err != nil {
		return read, err
	}
	exact := opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact ||
		opts.ResourceVersionMatch == "" && opts.Limit > 0 && revision > 0
	if exact {
		read.Exactly = revision
	} else {
		read.AtLeast = revision
	}
	return read, nil
}

// ParseRevision reads a resourceVersion parameter; "" is 0. The error is an
// Invalid Status as upstream gives for text that is no number.
func ParseRevision(value string) (int64, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "",
			field.ErrorList{field.Invalid(field.NewPath("resourceVersion"), value, err.Error())})
	}
	return int64(n), nil
}
