package command

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	metaversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/tools/clientcmd"
	kubectlversion "k8s.io/kubectl/pkg/cmd/version"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/internal/component"
)

// newVersion stands in for kubectl's command, which takes its version from
// linker flags of upstream's builds.
func newVersion(env Env) *cobra.Command {
	var clientOnly bool
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the client and server version information",
		Long:  "Print the version of this program, and of the server of the current context.",
		Args:  noArgs,
		RunE: run(func(*cobra.Command, []string) error {
			own := component.VersionInfo()
			versions := kubectlversion.Version{ClientVersion: &own}
			versions.KustomizeVersion, _ = kubectlversion.GetKustomizeModVersion()
			var serverErr error
			if !clientOnly {
				versions.ServerVersion, serverErr = env.serverVersion()
			}
			if err := env.printVersions(&versions, output); err != nil {
				return err
			}
			return serverErr
		}),
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "If true, shows client version only (no server required).")
	cmd.Flags().StringVarP(&output, "output", "o", "", "One of 'yaml' or 'json'.")
	return cmd
}

// serverVersion asks the server; without a configuration there is none to ask.
func (e Env) serverVersion() (*metaversion.Info, error) {
	discovery, err := e.Flags.ToDiscoveryClient()
	if clientcmd.IsEmptyConfig(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the server: %w", err)
	}
	discovery.Invalidate()
	info, err := discovery.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask for the server's version: %w", err)
	}
	return info, nil
}

func (e Env) printVersions(v *kubectlversion.Version, output string) error {
	var text []byte
	var err error
	switch output {
	case "":
		fmt.Fprintf(e.Out, "Client Version: %s\nKustomize Version: %s\n", v.ClientVersion.GitVersion, v.KustomizeVersion)
		if v.ServerVersion != nil {
			fmt.Fprintf(e.Out, "Server Version: %s\n", v.ServerVersion.GitVersion)
		}
		return nil
	case "yaml":
		text, err = yaml.Marshal(v)
	case "json":
		text, err = json.MarshalIndent(v, "", "  ")
	default:
		return &Error{Code: 2, Err: fmt.Errorf("--output must be 'yaml' or 'json', not %q", output)}
	}
	if err != nil {
		return fmt.Errorf("encode versions: %w", err)
	}
	fmt.Fprintln(e.Out, string(text))
	return nil
}
