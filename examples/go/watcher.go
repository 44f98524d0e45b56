package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	pb "example.com/backend/gen/identityv1"
)

// How long to wait between two attempts to watch.
const (
	pauseMin = 200 * time.Millisecond
	pauseMax = 30 * time.Second
)

// Watcher keeps the copy true. OnChange is called for each change before it is in
// the copy: at least once, so let it do no harm twice. A change that it fails for
// comes again.
type Watcher struct {
	Identity *Identity
	Accounts *Accounts
	OnChange func(*pb.AccountChange) error
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	pause := pauseMin
	for ctx.Err() == nil {
		err := w.follow(ctx, func() { pause = pauseMin })
		if ctx.Err() != nil {
			return
		}
		w.ended(err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
		pause = min(2*pause, pauseMax)
	}
}

func (w *Watcher) ended(err error) {
	var e *Error
	switch {
	case !errors.As(err, &e):
		slog.Error("a change could not be dealt with", "error", err)
	case e.Reason == "CURSOR_EXPIRED":
		// Too old to go on from. Nothing was skipped in silence: begin anew.
		if err := w.Accounts.ForgetCursor(); err != nil {
			slog.Error("the copy cannot be kept", "error", err)
		}
	case e.Action() == Alert:
		slog.Error("the accounts cannot be watched", "error", e)
	default:
		// WATCH_LAGGED, SHUTTING_DOWN, a connection that broke: go on from our own
		// cursor, behind which nothing has been applied.
		slog.Info("the watch is opened again", "code", e.Code, "reason", e.Reason)
	}
}

func (w *Watcher) follow(ctx context.Context, moved func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cursor := w.Accounts.Cursor()
	stream, err := w.Identity.Watch(ctx, cursor)
	if err != nil {
		return AsError(err)
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return AsError(err)
		}
		if cursor == "" {
			// The position first, then the list: no change falls between the two.
			accounts, err := w.Identity.ListAccounts(ctx)
			if err != nil {
				return err
			}
			if err := w.Accounts.Replace(accounts, message.Cursor); err != nil {
				return err
			}
			cursor = message.Cursor
		}
		if message.Change != nil && w.OnChange != nil {
			if err := w.OnChange(message.Change); err != nil {
				return err
			}
		}
		if err := w.Accounts.Apply(message.Change, message.Cursor); err != nil {
			return err
		}
		moved()
	}
}
