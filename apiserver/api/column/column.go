// Package column has the column definitions and cell formats that the tables
// of several kinds share. Used by apiserver/api/<group> only; pure.
package column

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// None is shown for an empty value.
const None = "<none>"

// Unknown is shown for a value that is not known.
const Unknown = "<unknown>"

// Definition is a column of a table.
type Definition = metav1.TableColumnDefinition

// Name is the first column of nearly all kinds.
func Name() Definition {
	return Definition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
}

// Age is the time since creation.
func Age() Definition {
	return Definition{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}
}

// CreatedAt shows the time of creation itself, for kinds without a printer of
// their own.
func CreatedAt() Definition {
	return Definition{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}
}

// Text is a column of strings.
func Text(name, description string) Definition {
	return Definition{Name: name, Type: "string", Description: description}
}

// Number is a column of integers.
func Number(name, description string) Definition {
	return Definition{Name: name, Type: "integer", Description: description}
}

// Bool is a column of true and false.
func Bool(name, description string) Definition {
	return Definition{Name: name, Type: "boolean", Description: description}
}

// Wide makes columns visible with -o wide only.
func Wide(columns ...Definition) []Definition {
	for i := range columns {
		columns[i].Priority = 1
	}
	return columns
}

// Containers are the two wide columns of a kind with a Pod template.
func Containers() []Definition {
	return Wide(
		Text("Containers", "Names of each container in the template."),
		Text("Images", "Images referenced by each container in the template."),
	)
}

// Since formats the time from then to now as kubectl shows ages.
func Since(then, now metav1.Time) string {
	if then.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(now.Sub(then.Time))
}

// Until formats the time from now to then.
func Until(then, now metav1.Time) string {
	if then.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(then.Sub(now.Time))
}

// OrNone replaces the empty string.
func OrNone(text string) string {
	if text == "" {
		return None
	}
	return text
}

// ContainerCells lists names and images of containers.
func ContainerCells(containers []corev1.Container) (names, images string) {
	var nameList, imageList []string
	for i := range containers {
		nameList = append(nameList, containers[i].Name)
		imageList = append(imageList, containers[i].Image)
	}
	return strings.Join(nameList, ","), strings.Join(imageList, ",")
}

// FirstOf joins the first limit entries and says how many more there are.
func FirstOf(list []string, limit int) string {
	if len(list) <= limit {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:limit], ","), len(list)-limit)
}

// Created formats a time for the CreatedAt column.
func Created(at metav1.Time) string {
	return at.UTC().Format("2006-01-02T15:04:05Z")
}
