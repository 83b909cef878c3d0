package codec

import (
	"net/http"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Transform says in which shape objects are wanted.
type Transform uint8

// The shapes; the zero value is the object itself.
const (
	AsObject Transform = iota
	AsTable
	AsPartial
)

// Accepted is the outcome of negotiation.
type Accepted struct {
	Format    Format
	Transform Transform
	// Stream is set when the client asked for ;stream=watch.
	Stream bool
	// Pretty asks for indented JSON.
	Pretty bool
	// Group, Version and As are the parameters as sent (aggregated discovery
	// and tables of v1beta1).
	As, Group, Version string
}

// Negotiate picks the first acceptable media type from the Accept header. The
// error is a 406 Status.
func Negotiate(r *http.Request, transforms bool) (Accepted, error) {
	header := r.Header.Get("Accept")
	pretty := wantsPretty(r)
	if header == "" || header == "*/*" {
		return Accepted{Pretty: pretty}, nil
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		a, ok := accept(clause, transforms)
		if ok {
			a.Pretty = pretty
			return a, nil
		}
	}
	return Accepted{}, NewNotAcceptable(MediaJSON, MediaYAML, MediaProtobuf, MediaCBOR)
}

func accept(clause goautoneg.Accept, transforms bool) (Accepted, bool) {
	format, ok := formatOf(clause.Type + "/" + clause.SubType)
	if !ok {
		return Accepted{}, false
	}
	a := Accepted{
		Format: format,
		As:     clause.Params["as"], Group: clause.Params["g"], Version: clause.Params["v"],
		Stream: clause.Params["stream"] == "watch",
	}
	if a.As == "" || !transforms {
		return a, a.As == "" || !transforms
	}
	if a.Group != metav1.GroupName || (a.Version != "v1" && a.Version != "v1beta1") {
		return a, false
	}
	switch a.As {
	case "Table":
		a.Transform = AsTable
		return a, format != Protobuf // tables have no protobuf form
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		a.Transform = AsPartial
		return a, true
	}
	return a, false
}

func formatOf(media string) (Format, bool) {
	switch media {
	case MediaJSON, "*/*", "application/*":
		return JSON, true
	case MediaYAML, "application/x-yaml", "text/yaml":
		return YAML, true
	case MediaProtobuf:
		return Protobuf, true
	case MediaCBOR, mediaCBORSeq:
		return CBOR, true
	}
	return JSON, false
}

// wantsPretty follows ?pretty=, and without it guesses that browsers and curl
// have a person behind them, as upstream does.
func wantsPretty(r *http.Request) bool {
	if raw := r.URL.RawQuery; strings.Contains(raw, "pretty") {
		if v, ok := r.URL.Query()["pretty"]; ok {
			return v[0] != "0" && v[0] != "false"
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// NegotiateDiscovery picks from the Accept header for /api and /apis: plain
// documents, or the aggregated list of apidiscovery.k8s.io (KEP-3352) in
// Accepted.Version ("" means plain).
func NegotiateDiscovery(r *http.Request) (Accepted, error) {
	header := r.Header.Get("Accept")
	pretty := wantsPretty(r)
	if header == "" {
		return Accepted{Pretty: pretty}, nil
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		format, ok := formatOf(clause.Type + "/" + clause.SubType)
		if !ok {
			continue
		}
		a := Accepted{Format: format, Pretty: pretty}
		if clause.Params["as"] == "" {
			return a, nil
		}
		a.As, a.Group, a.Version = clause.Params["as"], clause.Params["g"], clause.Params["v"]
		if a.As == "APIGroupDiscoveryList" && a.Group == "apidiscovery.k8s.io" && (a.Version == "v2" || a.Version == "v2beta1") {
			return a, nil
		}
	}
	return Accepted{}, NewNotAcceptable(MediaJSON, MediaYAML, MediaProtobuf)
}
