package codec

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// defaultColumns are those of kinds that define none.
var defaultColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
	{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}

func defaultRow(obj runtime.Object, _ metav1.Time) []any {
	o, ok := obj.(resource.Object)
	if !ok {
		return []any{"", ""}
	}
	return []any{o.GetName(), o.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

// encodeTable returns items as a Table; head says whether with columns.
func (s *Source) encodeTable(a Accepted, items []*store.Item, m metav1.ListMeta, include metav1.IncludeObjectPolicy, head bool) ([]byte, error) {
	return Encode(a.Format, s.table(items, m, include, head), tableKind(a))
}

// tableKind is Table in the version asked for; v1beta1 has the same form.
func tableKind(a Accepted) schema.GroupVersionKind {
	kind := metaKind("Table")
	if a.Version != "" {
		kind.Version = a.Version
	}
	return kind
}

func (s *Source) table(items []*store.Item, m metav1.ListMeta, include metav1.IncludeObjectPolicy, head bool) *metav1.Table {
	now := metav1.Now()
	t := &metav1.Table{ListMeta: m, Rows: make([]metav1.TableRow, 0, len(items))}
	if head {
		t.ColumnDefinitions = s.columns
	}
	for _, item := range items {
		obj := s.Object(item)
		row := metav1.TableRow{Cells: s.row(obj, now)}
		switch include {
		case metav1.IncludeNone:
		case metav1.IncludeObject:
			row.Object.Object = withKind(obj, s.kind)
		default:
			row.Object.Object = partialOf(item.Object)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
