// Command images makes the OCI images that the demo and the tests run, from
// what is at hand: Go programs of this repository and Debian packages.
//
//	images -o DIR NAME...       writes DIR/NAME-image.tar, in docker's archive format
//	images -list                says what there is
//	images registry [-listen ADDR] [-user NAME -password WORD] ARCHIVE...
//	                            serves archives from a registry, until it is interrupted
//
// Images are named localhost/skeg/NAME:TAG; the registry serves them as
// ADDR/skeg/NAME:TAG.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/hack/images/recipe"
	"github.com/skeg-dev/skeg/hack/images/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "registry" {
		return serve(ctx, args[1:])
	}
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	out := flags.String("o", ".", "directory to write to")
	list := flags.Bool("list", false, "list the images there are")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		for _, r := range recipe.All() {
			fmt.Printf("%-10s %s\n", r.Name, r.Ref)
		}
		return nil
	}
	if flags.NArg() == 0 {
		return errors.New("usage: images -o DIR NAME... | images -list | images registry ARCHIVE...")
	}
	for _, name := range flags.Args() {
		path := filepath.Join(*out, name+"-image.tar")
		if err := recipe.Write(ctx, name, path); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

func serve(ctx context.Context, args []string) error {
	var cfg registry.Config
	flags := flag.NewFlagSet("images registry", flag.ContinueOnError)
	flags.StringVar(&cfg.Listen, "listen", "127.0.0.1:5000", "address")
	flags.StringVar(&cfg.User, "user", "", "name that clients must give")
	flags.StringVar(&cfg.Password, "password", "", "password that clients must give")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := registry.Start(cfg)
	if err != nil {
		return err
	}
	for _, archive := range flags.Args() {
		refs, err := server.Load(ctx, archive)
		if err != nil {
			return errors.Join(err, server.Close())
		}
		for _, ref := range refs {
			fmt.Println(ref)
		}
	}
	<-ctx.Done()
	return server.Close()
}
