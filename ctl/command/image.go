package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// nodeImage is an image as the kubelet's /images lists it.
type nodeImage struct {
	ID        string   `json:"id"`
	Names     []string `json:"names"`
	SizeBytes int64    `json:"sizeBytes"`
}

func newImage(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Put images on nodes without a registry, and list them",
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Help() }, // it writes to our own stdout
	}
	cmd.AddCommand(newImageLoad(env), newImageList(env))
	return cmd
}

func newImageLoad(env Env) *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use:   "load FILE...",
		Short: "Load image archives (docker save, OCI layout in a tar) into the nodes",
		Example: `  docker save app:1 -o app.tar && ctl image load app.tar
  ctl image load app.tar --node node-1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &Error{Code: 2, Err: errors.New("name an image archive"), Next: "See 'ctl image load --help'."}
			}
			return nil
		},
		RunE: run(func(cmd *cobra.Command, args []string) error {
			client, err := env.client()
			if err != nil {
				return err
			}
			if nodes, err = nodeNames(cmd.Context(), client, nodes); err != nil {
				return err
			}
			for _, file := range args {
				for _, node := range nodes {
					names, err := loadImage(cmd.Context(), client, node, file)
					if err != nil {
						return err
					}
					fmt.Fprintf(env.Out, "%s: loaded %s\n", node, strings.Join(names, ", "))
				}
			}
			return nil
		}),
	}
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "nodes to load it into (default: all)")
	return cmd
}

// nodeNames checks the names, or lists all nodes when there are none.
func nodeNames(ctx context.Context, client kubernetes.Interface, wanted []string) ([]string, error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	known := map[string]bool{}
	var all []string
	for i := range list.Items {
		known[list.Items[i].Name] = true
		all = append(all, list.Items[i].Name)
	}
	for _, name := range wanted {
		if !known[name] {
			return nil, &Error{Code: 1, Err: fmt.Errorf("--node: there is no node %q", name), Next: "'ctl get nodes' shows them."}
		}
	}
	if len(wanted) > 0 {
		return wanted, nil
	}
	if len(all) == 0 {
		return nil, errors.New("the cluster has no nodes")
	}
	return all, nil
}

func loadImage(ctx context.Context, client kubernetes.Interface, node, file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := client.CoreV1().RESTClient().Post().
		AbsPath("/api/v1/nodes", node, "proxy", "images", "load").
		SetHeader("Content-Type", "application/x-tar").
		Timeout(10 * time.Minute).Body(f).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("load %s into %s: %w%s", file, node, err, answer(data))
	}
	var result struct {
		Names []string `json:"names"`
	}
	if err := json.Unmarshal(data, &result); err != nil {
		return nil, fmt.Errorf("load %s into %s: read the answer: %w", file, node, err)
	}
	return result.Names, nil
}

// answer is what a node said beside an error, for the message.
func answer(data []byte) string {
	if text := strings.TrimSpace(string(data)); text != "" {
		return ": " + text
	}
	return ""
}

func newImageList(env Env) *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the images on the nodes",
		Args:    noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			client, err := env.client()
			if err != nil {
				return err
			}
			if nodes, err = nodeNames(cmd.Context(), client, nodes); err != nil {
				return err
			}
			w := tabwriter.NewWriter(env.Out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NODE\tIMAGE\tID\tSIZE")
			for _, node := range nodes {
				images, err := listImages(cmd.Context(), client, node)
				if err != nil {
					return err
				}
				for _, img := range images {
					printImage(w, node, img)
				}
			}
			return w.Flush()
		}),
	}
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "nodes to list (default: all)")
	return cmd
}

func listImages(ctx context.Context, client kubernetes.Interface, node string) ([]nodeImage, error) {
	data, err := client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", node, "proxy", "images").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images of %s: %w%s", node, err, answer(data))
	}
	var images []nodeImage
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("list images of %s: read the answer: %w", node, err)
	}
	return images, nil
}

func printImage(w *tabwriter.Writer, node string, img nodeImage) {
	id := strings.TrimPrefix(img.ID, "sha256:")
	if len(id) > 12 {
		id = id[:12]
	}
	names := img.Names
	if len(names) == 0 {
		names = []string{"<none>"}
	}
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f MiB\n", node, name, id, mebibytes(img.SizeBytes))
	}
}
