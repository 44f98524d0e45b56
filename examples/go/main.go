// A backend whose users link their Threads accounts.
//
//	THREADS_IDENTITY_ADDRESS=… THREADS_IDENTITY_CA_FILE=… THREADS_IDENTITY_CALLER_KEY=… go run .
package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	identity, err := Dial(
		os.Getenv("THREADS_IDENTITY_ADDRESS"),
		os.Getenv("THREADS_IDENTITY_CA_FILE"),
		os.Getenv("THREADS_IDENTITY_CALLER_KEY"),
	)
	if err != nil {
		return err
	}
	defer identity.Close()
	accounts, err := OpenAccounts(cmp.Or(os.Getenv("ACCOUNTS_FILE"), "accounts.json"))
	if err != nil {
		return err
	}
	go (&Watcher{Identity: identity, Accounts: accounts}).Run(ctx)
	backend := &Backend{
		Identity: identity,
		Accounts: accounts,
		GraphURL: cmp.Or(os.Getenv("THREADS_GRAPH_URL"), "https://graph.threads.com"),
	}
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:3000"),
		Handler:           backend.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() {
		<-ctx.Done()
		server.Shutdown(context.WithoutCancel(ctx))
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
