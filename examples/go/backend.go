package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	pb "example.com/backend/gen/identityv1"
)

// How long a person who waits for a page lets us wait.
const patience = 5 * time.Second

// No ticket is longer.
const ticketMax = 4096

// How a browser is told what to do about an error.
var statuses = map[Action]int{
	Tell:       http.StatusConflict,
	StartAgain: http.StatusGone,
	Wait:       http.StatusServiceUnavailable,
	Consent:    http.StatusForbidden,
	Watch:      http.StatusInternalServerError,
	Alert:      http.StatusInternalServerError,
}

// Backend is a backend whose users link their Threads accounts.
type Backend struct {
	Identity *Identity
	Accounts *Accounts
	GraphURL string
	sessions Sessions
}

// Handler is its pages.
func (b *Backend) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", b.login)
	mux.HandleFunc("POST /link", b.loggedIn(b.link))
	mux.HandleFunc("POST /unlink", b.loggedIn(b.unlink))
	mux.HandleFunc("GET /linked", b.loggedIn(b.linked))
	mux.HandleFunc("GET /me", b.loggedIn(b.me))
	mux.HandleFunc("GET /threads/me", b.loggedIn(b.threadsMe))
	mux.HandleFunc("GET /accounts", b.loggedIn(b.linkedAccounts))
	return mux
}

// login stands in place of the login that you have.
func (b *Backend) login(w http.ResponseWriter, r *http.Request) {
	userID := r.PostFormValue("user_id")
	if userID == "" {
		http.Error(w, "user_id is required", http.StatusBadRequest)
		return
	}
	b.sessions.Begin(w, userID)
	w.WriteHeader(http.StatusNoContent)
}

// here is a request of somebody who is logged in.
type here struct {
	*http.Request
	id      string
	session Session
}

// loggedIn calls a page for whoever is logged in, and tells what went wrong in it.
func (b *Backend) loggedIn(page func(http.ResponseWriter, here) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, session, found := b.sessions.Of(r)
		if !found {
			answer(w, http.StatusUnauthorized, map[string]string{"action": "log_in"})
			return
		}
		if err := page(w, here{r, id, session}); err != nil {
			b.failed(w, err)
		}
	}
}

func (b *Backend) failed(w http.ResponseWriter, err error) {
	if errors.Is(err, errNotLinked) {
		answer(w, http.StatusNotFound, map[string]string{"action": "link"})
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		slog.Error("a page failed", "error", err)
		http.Error(w, "something went wrong", http.StatusInternalServerError)
		return
	}
	action := e.Action()
	switch action {
	case Alert:
		slog.Error("threads-identity", "error", e)
	case Wait:
		w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryDelay.Seconds())+1))
	}
	answer(w, statuses[action], map[string]string{"action": string(action), "reason": e.Reason})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func (b *Backend) link(w http.ResponseWriter, h here) error {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	// Which account is consented to again is ours to know, not the browser's.
	again := ""
	if h.PostFormValue("again") != "" {
		again = b.known(h)
	}
	url, err := Patiently(ctx, func(ctx context.Context) (string, error) {
		return b.Identity.AuthorizationURL(ctx, h.session.UserID, h.session.Binding, again)
	})
	if err != nil {
		return err
	}
	http.Redirect(w, h.Request, url, http.StatusSeeOther)
	return nil
}

func (b *Backend) unlink(w http.ResponseWriter, h here) error {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	account, err := b.account(h)
	if err != nil {
		return err
	}
	_, err = Patiently(ctx, func(ctx context.Context) (*pb.Account, error) {
		return b.Identity.Unlink(ctx, account, h.session.UserID)
	})
	if err != nil {
		return err
	}
	h.session.Account = ""
	b.sessions.put(h.id, h.session)
	// Threads has no way to give a token back: tell the person to remove the app there, too.
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// linked is where the hosted callback sends the browser on to (return_to).
func (b *Backend) linked(w http.ResponseWriter, h here) error {
	// A browser that guesses where its person will go has not got its person there.
	if h.Header.Get("Sec-Purpose") != "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	ticket := h.URL.Query().Get("ticket")
	if ticket == "" || len(ticket) > ticketMax {
		answer(w, statuses[StartAgain], map[string]string{"action": string(StartAgain)})
		return nil
	}
	// What has begun is finished, also if the browser goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.Context()), 2*patience)
	defer cancel()
	// The user is that of this session, whoever the ticket may be of.
	session := h.session
	done, err := Patiently(ctx, func(ctx context.Context) (*pb.CompleteAuthorizationResponse, error) {
		return b.Identity.Complete(ctx, ticket, session.UserID, session.Binding)
	})
	if err != nil {
		return err
	}
	session.Account = done.Account.AccountId
	b.sessions.put(h.id, session)
	http.Redirect(w, h.Request, "/me", http.StatusSeeOther)
	return nil
}

// errNotLinked says that the user has no account to speak of.
var errNotLinked = errors.New("nothing is linked")

// account is the one that a page is about.
func (b *Backend) account(h here) (string, error) {
	if known := b.known(h); known != "" {
		return known, nil
	}
	return "", errNotLinked
}

// known is the account that was linked here, or one that the copy knows of.
func (b *Backend) known(h here) string {
	if h.session.Account != "" {
		return h.session.Account
	}
	for _, account := range b.Accounts.Of(h.session.UserID) {
		return account.AccountID
	}
	return ""
}

func (b *Backend) me(w http.ResponseWriter, h here) error {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	account, err := b.account(h)
	if err != nil {
		return err
	}
	got, err := Patiently(ctx, func(ctx context.Context) (*pb.AccountProfile, error) {
		return b.Identity.Profile(ctx, account, h.session.UserID, h.URL.Query().Has("fresh"))
	})
	if err != nil {
		return err
	}
	// Pointers: absent is not empty.
	answer(w, http.StatusOK, map[string]any{
		"account_id":      got.AccountId,
		"threads_user_id": got.Profile.GetId(),
		"username":        got.Profile.Username,
		"name":            got.Profile.Name,
	})
	return nil
}

// linkedAccounts tells what the copy says, without a call.
func (b *Backend) linkedAccounts(w http.ResponseWriter, h here) error {
	answer(w, http.StatusOK, b.Accounts.Of(h.session.UserID))
	return nil
}
