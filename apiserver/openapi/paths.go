package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

var (
	jsonTypes  = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"}
	watchTypes = append(slices.Clone(jsonTypes), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
	patchTypes = []string{
		"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
		"application/apply-patch+yaml", "application/apply-patch+cbor",
	}
)

var allVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

// resource adds the paths of one kind.
func (b *builder) resource(d *resource.Definition, paths map[string]spec.PathItem) error {
	verbs := d.Verbs
	if verbs == nil {
		verbs = allVerbs
	}
	base := "/" + groupPath(d.Kind.GroupVersion())
	collection, tag := base+"/"+d.Resource, tagOf(d.Kind.GroupVersion())
	if d.Namespaced {
		collection = base + "/namespaces/{namespace}/" + d.Resource
		if slices.Contains(verbs, "list") {
			p := b.item(d, true)
			p.Get = b.operation(d, tag, "list", "list"+d.Kind.Kind+"ForAllNamespaces", listParameters, nil)
			paths[base+"/"+d.Resource] = p
		}
	}
	scope := ""
	if d.Namespaced {
		scope = "Namespaced"
	}
	if item := b.collection(d, tag, scope, verbs); item.Get != nil || item.Post != nil || item.Delete != nil {
		paths[collection] = item
	}
	if item := b.single(d, tag, scope, verbs); item.Get != nil || item.Put != nil || item.Delete != nil {
		paths[collection+"/{name}"] = item
	}
	if d.Status != nil {
		item := b.item(d, false)
		item.Parameters = append(item.Parameters, nameParameter)
		item.Get = b.operation(d, tag, "get", "read"+scope+d.Kind.Kind+"Status", nil, nil)
		item.Put = b.operation(d, tag, "put", "replace"+scope+d.Kind.Kind+"Status", writeParameters, b.body(d))
		item.Patch = b.patch(d, tag, "patch"+scope+d.Kind.Kind+"Status")
		paths[collection+"/{name}/status"] = item
	}
	for i := range d.Subresources {
		b.subresource(d, &d.Subresources[i], tag, scope, collection, paths)
	}
	return nil
}

func (b *builder) collection(d *resource.Definition, tag, scope string, verbs []string) spec.PathItem {
	item := b.item(d, false)
	if slices.Contains(verbs, "list") {
		item.Get = b.operation(d, tag, "list", "list"+scope+d.Kind.Kind, listParameters, nil)
	}
	if slices.Contains(verbs, "create") {
		item.Post = b.operation(d, tag, "post", "create"+scope+d.Kind.Kind, writeParameters, b.body(d))
	}
	if slices.Contains(verbs, "deletecollection") {
		item.Delete = b.operation(d, tag, "deletecollection", "deleteCollection"+scope+d.Kind.Kind, append(slices.Clone(listParameters), deleteParameters...), nil)
	}
	return item
}

func (b *builder) single(d *resource.Definition, tag, scope string, verbs []string) spec.PathItem {
	item := b.item(d, false)
	item.Parameters = append(item.Parameters, nameParameter)
	if slices.Contains(verbs, "get") {
		item.Get = b.operation(d, tag, "get", "read"+scope+d.Kind.Kind, nil, nil)
	}
	if slices.Contains(verbs, "update") {
		item.Put = b.operation(d, tag, "put", "replace"+scope+d.Kind.Kind, writeParameters, b.body(d))
	}
	if slices.Contains(verbs, "patch") {
		item.Patch = b.patch(d, tag, "patch"+scope+d.Kind.Kind)
	}
	if slices.Contains(verbs, "delete") {
		options := b.kind(&metav1.DeleteOptions{}, d.Kind.GroupVersion().WithKind("DeleteOptions"))
		item.Delete = b.operation(d, tag, "delete", "delete"+scope+d.Kind.Kind, deleteParameters, bodyParameter(options, false))
	}
	return item
}

func (b *builder) subresource(d *resource.Definition, s *resource.Subresource, tag, scope, collection string, paths map[string]spec.PathItem) {
	item := b.item(d, false)
	item.Parameters = append(item.Parameters, nameParameter)
	view := &resource.Definition{Kind: s.Kind, New: s.New}
	if s.New == nil {
		view = d
	}
	name := scope + d.Kind.Kind + strings.ToUpper(s.Name[:1]) + s.Name[1:]
	for _, verb := range s.Verbs {
		switch {
		case s.Connect && (verb == "get" || verb == "create") && s.New == nil:
			op := b.connect(d, tag, name)
			if verb == "get" {
				item.Get = op
			} else {
				item.Post = op
			}
		case verb == "get":
			item.Get = b.operation(view, tag, "get", "read"+name, nil, nil)
		case verb == "create":
			item.Post = b.operation(view, tag, "post", "create"+name, writeParameters, b.body(view))
		case verb == "update":
			item.Put = b.operation(view, tag, "put", "replace"+name, writeParameters, b.body(view))
		case verb == "patch":
			item.Patch = b.patch(view, tag, "patch"+name)
		}
	}
	paths[collection+"/{name}/"+s.Name] = item
}

func (b *builder) item(d *resource.Definition, allNamespaces bool) spec.PathItem {
	var item spec.PathItem
	item.Parameters = []spec.Parameter{*query("pretty", "string", "If 'true', the answer is indented for people.")}
	if d.Namespaced && !allNamespaces {
		item.Parameters = append(item.Parameters, *path("namespace", "object name and auth scope, such as for teams and projects"))
	}
	return item
}

func (b *builder) operation(d *resource.Definition, tag, action, id string, parameters []spec.Parameter, body *spec.Parameter) *spec.Operation {
	result := b.kind(d.New(), d.Kind)
	produces := jsonTypes
	switch action {
	case "list":
		result, produces = b.kind(d.NewList(), d.Kind.GroupVersion().WithKind(kindOf(d.NewList()))), watchTypes
	case "delete", "deletecollection":
		result = b.kind(&metav1.Status{}, schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	}
	op := newOperation(tag, id, produces...)
	op.Parameters = parameters
	if body != nil {
		op.Parameters = append(slices.Clone(parameters), *body)
	}
	op.Responses = responses(action, result)
	op.AddExtension(extensionAction, action)
	op.AddExtension(extensionKind, map[string]any{"group": d.Kind.Group, "version": d.Kind.Version, "kind": d.Kind.Kind})
	return op
}

func (b *builder) patch(d *resource.Definition, tag, id string) *spec.Operation {
	patch := b.ref(reflect.TypeFor[metav1.Patch]())
	op := b.operation(d, tag, "patch", id, append(slices.Clone(writeParameters), *query("force", "boolean", "Take over fields that others manage; for apply patches only.")), bodyParameter(patch, true))
	op.Consumes = patchTypes
	return op
}

func (b *builder) connect(d *resource.Definition, tag, name string) *spec.Operation {
	op := newOperation(tag, "connect"+name, "*/*")
	op.Responses = responses("connect", *spec.StringProperty())
	op.AddExtension(extensionAction, "connect")
	op.AddExtension(extensionKind, map[string]any{"group": d.Kind.Group, "version": d.Kind.Version, "kind": d.Kind.Kind})
	return op
}

func newOperation(tag, id string, produces ...string) *spec.Operation {
	return &spec.Operation{OperationProps: spec.OperationProps{
		ID: operationID(tag, id), Tags: []string{tag}, Produces: produces, Consumes: []string{"*/*"},
	}}
}

func (b *builder) body(d *resource.Definition) *spec.Parameter {
	return bodyParameter(b.kind(d.New(), d.Kind), true)
}

func bodyParameter(s spec.Schema, required bool) *spec.Parameter {
	return &spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: required, Schema: &s}}
}

func responses(action string, result spec.Schema) *spec.Responses {
	ok := func(text string) spec.Response {
		return spec.Response{ResponseProps: spec.ResponseProps{Description: text, Schema: &result}}
	}
	codes := map[int]spec.Response{
		200: ok("OK"),
		401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}},
	}
	switch action {
	case "post":
		codes[201], codes[202] = ok("Created"), ok("Accepted")
	case "put", "patch":
		codes[201] = ok("Created")
	case "delete":
		codes[202] = ok("Accepted")
	}
	return &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: codes}}
}

func kindOf(obj any) string { return reflect.TypeOf(obj).Elem().Name() }

// tagOf is "core_v1" or "apps_v1": what generated clients name their classes
// after.
func tagOf(gv schema.GroupVersion) string {
	group, _, _ := strings.Cut(gv.Group, ".")
	if group == "" {
		group = "core"
	}
	return group + "_" + gv.Version
}

// operationID puts the tag after the verb: listCoreV1NamespacedPod.
func operationID(tag, id string) string {
	group, version, _ := strings.Cut(tag, "_")
	i := strings.IndexFunc(id, func(r rune) bool { return r >= 'A' && r <= 'Z' })
	if strings.HasPrefix(id, "deleteCollection") {
		i = len("deleteCollection")
	}
	return id[:i] + strings.ToUpper(group[:1]) + group[1:] + strings.ToUpper(version[:1]) + version[1:] + id[i:]
}

func query(name, kind, doc string) *spec.Parameter {
	return parameter(name, "query", kind, doc, false)
}

func path(name, doc string) *spec.Parameter { return parameter(name, "path", "string", doc, true) }

func parameter(name, in, kind, doc string, required bool) *spec.Parameter {
	return &spec.Parameter{
		CommonValidations: spec.CommonValidations{UniqueItems: true},
		SimpleSchema:      spec.SimpleSchema{Type: kind},
		ParamProps:        spec.ParamProps{Name: name, In: in, Description: doc, Required: required},
	}
}

var (
	nameParameter  = *path("name", "name of the object")
	listParameters = []spec.Parameter{
		*query("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events, which carry only a resourceVersion."),
		*query("continue", "string", "Token of an earlier answer, to get the next page of a list."),
		*query("fieldSelector", "string", "Only objects whose fields match."),
		*query("labelSelector", "string", "Only objects whose labels match."),
		*query("limit", "integer", "How many items an answer may have at most; more come with continue."),
		*query("resourceVersion", "string", "Which state of the cluster the answer may or must come from."),
		*query("resourceVersionMatch", "string", "How resourceVersion is meant: NotOlderThan or Exact."),
		*query("sendInitialEvents", "boolean", "Whether a watch starts with the objects that are there, ended by a bookmark."),
		*query("timeoutSeconds", "integer", "How long the call may take."),
		*query("watch", "boolean", "Send changes as they happen, as a stream of events."),
	}
	writeParameters = []spec.Parameter{
		*query("dryRun", "string", "All: do everything but store the result."),
		*query("fieldManager", "string", "Name under which the changed fields are recorded."),
		*query("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
	}
	deleteParameters = []spec.Parameter{
		*query("dryRun", "string", "All: do everything but store the result."),
		*query("gracePeriodSeconds", "integer", "How long the object has to end before it is removed."),
		*query("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Remove an object that cannot be read."),
		*query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
		*query("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
	}
)
