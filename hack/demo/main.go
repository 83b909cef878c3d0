// Command demo is the application of `make up`: a page that says who served
// it. `demo fetch URL` is a client for use inside a pod; `demo load URL` asks
// all the time and prints "ok N" for every tenth answer and "failed TIME WHY"
// for every failure, TIME being when the request was started.
//
//	GREETING   first line of the page
//	NODE_NAME  the node, as the pod knows it
//	LISTEN     address to listen on; ":8080" when empty
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// fetchTimeout bounds `demo fetch`, so that a script is told and not hung.
const fetchTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "fetch":
		err = fetch(ctx, os.Args[2], os.Stdout)
	case len(os.Args) == 3 && os.Args[1] == "load":
		load(ctx, os.Args[2], os.Stdout)
	case len(os.Args) == 1:
		err = serve(ctx)
	default:
		err = errors.New("usage: demo | demo fetch URL | demo load URL")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func fetch(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// loadEvery is the pause between the requests of `demo load`.
const loadEvery = 50 * time.Millisecond

// load asks until ctx ends. Each request has a connection of its own, so that
// every one is balanced.
func load(ctx context.Context, url string, out io.Writer) {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.DisableKeepAlives = true
	}
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; {
		at := time.Now()
		switch err := fetch(ctx, url, io.Discard); {
		case err == nil:
			if n++; n%10 == 0 {
				fmt.Fprintln(out, "ok", n)
			}
		case ctx.Err() == nil:
			fmt.Fprintln(out, "failed", at.Format(time.RFC3339Nano), err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func serve(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	page := fmt.Sprintf("%s: pod %s on %s\n", env("GREETING", "Hello"), host, env("NODE_NAME", "an unknown node"))
	var stopping atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if stopping.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	server := &http.Server{Addr: env("LISTEN", ":8080"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.ListenAndServe() }()
	fmt.Printf("%s: listening on %s\n", host, server.Addr)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stopping.Store(true)
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(drain)
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
