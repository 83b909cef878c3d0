package command

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/skeg-dev/skeg/ctl/local"
)

// tokenPrefix starts the names of bootstrap token Secrets (API reference).
const tokenPrefix = "bootstrap-token-"

func newToken(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and delete tokens that let nodes join",
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Help() }, // it writes to our own stdout
	}
	cmd.AddCommand(newTokenCreate(env), newTokenList(env), newTokenDelete(env))
	return cmd
}

func newTokenCreate(env Env) *cobra.Command {
	var ttl time.Duration
	var description string
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Make a token and print it",
		Example: "  kubelet --server https://10.0.0.1:6443 --token $(ctl token create) --ca-cert-hash sha256:...",
		Args:    noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if ttl < 0 {
				return &Error{Code: 2, Err: fmt.Errorf("--ttl: must not be negative, got %s", ttl)}
			}
			client, err := env.client()
			if err != nil {
				return err
			}
			token, err := local.CreateToken(cmd.Context(), client, ttl, description)
			if err == nil {
				fmt.Fprintln(env.Out, token)
			}
			return err
		}),
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is valid; 0 is for ever")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func newTokenList(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens, without their secret halves",
		Args:    noArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			client, err := env.client()
			if err != nil {
				return err
			}
			secrets, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(cmd.Context(),
				metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
			if err != nil {
				return fmt.Errorf("list tokens: %w", err)
			}
			w := tabwriter.NewWriter(env.Out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tEXPIRES\tUSAGES\tDESCRIPTION")
			for i := range secrets.Items {
				s := &secrets.Items[i]
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Data["token-id"], expires(string(s.Data["expiration"]), time.Now()), usages(s), s.Data["description"])
			}
			return w.Flush()
		}),
	}
}

func expires(at string, now time.Time) string {
	if at == "" {
		return "never"
	}
	t, err := time.Parse(time.RFC3339, at)
	switch {
	case err != nil:
		return "<invalid>"
	case !t.After(now):
		return "expired"
	}
	return "in " + duration.HumanDuration(t.Sub(now))
}

func usages(s *corev1.Secret) string {
	var all []string
	for _, usage := range []string{"authentication", "signing"} {
		if string(s.Data["usage-bootstrap-"+usage]) == "true" {
			all = append(all, usage)
		}
	}
	return strings.Join(all, ",")
}

func newTokenDelete(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID...",
		Aliases: []string{"rm"},
		Short:   "Delete tokens by id (the part before the dot)",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &Error{Code: 2, Err: fmt.Errorf("name the id of a token"), Next: "'ctl token list' shows them."}
			}
			return nil
		},
		RunE: run(func(cmd *cobra.Command, args []string) error {
			client, err := env.client()
			if err != nil {
				return err
			}
			for _, arg := range args {
				if err := deleteToken(cmd.Context(), client.CoreV1().Secrets(metav1.NamespaceSystem).Delete, arg); err != nil {
					return err
				}
				id, _, _ := strings.Cut(arg, ".")
				fmt.Fprintf(env.Out, "token %q deleted\n", id)
			}
			return nil
		}),
	}
}

func deleteToken(ctx context.Context, del func(context.Context, string, metav1.DeleteOptions) error, token string) error {
	id, _, _ := strings.Cut(token, ".") // a whole token will do as well
	err := del(ctx, tokenPrefix+id, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return &Error{Code: 1, Err: fmt.Errorf("there is no token %q", id), Next: "'ctl token list' shows them."}
	}
	if err != nil {
		return fmt.Errorf("delete token %q: %w", id, err)
	}
	return nil
}
