package component

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// groupAnnotation marks a flag with the heading it stands under in --help.
const groupAnnotation = "skeg.dev/flag-group"

// common are the flags that every binary has beside its own options.
type common struct {
	logs    *LogOptions
	help    bool
	version string
}

// InFlagGroup registers what add adds to fs under a heading in --help. A flag
// that fs has already keeps its first meaning.
func InFlagGroup(fs *pflag.FlagSet, heading string, add func(fs *pflag.FlagSet)) {
	group := pflag.NewFlagSet(heading, pflag.ContinueOnError)
	add(group)
	group.VisitAll(func(f *pflag.Flag) {
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		if len(f.Annotations[groupAnnotation]) == 0 {
			f.Annotations[groupAnnotation] = []string{heading}
		}
	})
	fs.AddFlagSet(group)
}

// FeatureGates is a flag value for --feature-gates: "Name=true,Other=false".
// The zero value is empty and ready.
type FeatureGates map[string]bool

// AddFeatureGates registers --feature-gates into gates.
func AddFeatureGates(fs *pflag.FlagSet, gates *FeatureGates) {
	fs.Var(gates, "feature-gates", "Comma-separated Name=true|false pairs; accepted for compatibility, gates that skeg does not know change nothing")
}

// Enabled returns the given value of a gate, or fallback when not given.
func (g FeatureGates) Enabled(name string, fallback bool) bool {
	if on, ok := g[name]; ok {
		return on
	}
	return fallback
}

// String lists the pairs in order.
func (g *FeatureGates) String() string {
	if g == nil {
		return ""
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(*g)) {
		pairs = append(pairs, fmt.Sprintf("%s=%t", name, (*g)[name]))
	}
	return strings.Join(pairs, ",")
}

// Set adds pairs.
func (g *FeatureGates) Set(value string) error {
	if *g == nil {
		*g = FeatureGates{}
	}
	for pair := range strings.SplitSeq(value, ",") {
		name, on, found := strings.Cut(strings.TrimSpace(pair), "=")
		if name == "" && !found {
			continue
		}
		enabled, err := strconv.ParseBool(on)
		if err != nil || !found || name == "" {
			return fmt.Errorf("%q is not Name=true or Name=false", pair)
		}
		(*g)[name] = enabled
	}
	return nil
}

// Type names the value in help.
func (*FeatureGates) Type() string { return "mapStringBool" }

func (p Program) flagSet(given *common) *pflag.FlagSet {
	fs := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	fs.SortFlags = true
	fs.Usage = func() {} // the caller answers errors and --help
	p.Options.AddFlags(fs)
	given.logs.AddFlags(fs)
	InFlagGroup(fs, "Global", func(fs *pflag.FlagSet) {
		fs.BoolVarP(&given.help, "help", "h", false, "Show this help")
		fs.StringVar(&given.version, "version", "", "Show the version and exit; --version=raw shows all of it")
		fs.Lookup("version").NoOptDefVal = "true"
	})
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	return fs
}

func writeHelp(w io.Writer, p Program, fs *pflag.FlagSet) error {
	groups := map[string]*pflag.FlagSet{}
	own := "Flags"
	fs.VisitAll(func(f *pflag.Flag) {
		heading := own
		if names := f.Annotations[groupAnnotation]; len(names) > 0 {
			heading = names[0]
		}
		if groups[heading] == nil {
			groups[heading] = pflag.NewFlagSet(heading, pflag.ContinueOnError)
		}
		groups[heading].AddFlag(f)
	})
	text := &strings.Builder{}
	fmt.Fprintf(text, "%s\n\nUsage:\n  %s [flags]\n", p.Short, p.Name)
	headings := slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return strings.Compare(headingOrder(a, own), headingOrder(b, own))
	})
	for _, heading := range headings {
		if heading != own {
			heading += " flags"
		}
		fmt.Fprintf(text, "\n%s:\n\n%s", heading, groups[strings.TrimSuffix(heading, " flags")].FlagUsagesWrapped(0))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// headingOrder sorts the component's own flags first, those all binaries share last.
func headingOrder(heading, own string) string {
	switch heading {
	case own:
		return "0"
	case "Logs", "Global":
		return "2" + heading
	}
	return "1" + heading
}

func writeVersion(w io.Writer, name, form string) error {
	if form == "raw" {
		raw, err := json.MarshalIndent(VersionInfo(), "", "  ")
		if err != nil {
			return fmt.Errorf("encode version: %w", err)
		}
		_, err = fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	_, err := fmt.Fprintf(w, "skeg %s %s (build %s)\n", name, Version, Build)
	return err
}
