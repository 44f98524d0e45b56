package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
)

// askThreads says who Threads thinks the token is of, or that it refuses it.
func (b *Backend) askThreads(ctx context.Context, token string) (me map[string]any, refused bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.GraphURL+"/v1.0/me?fields=id,username", nil)
	if err != nil {
		return nil, false, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, false, err
	}
	defer response.Body.Close()
	var body struct {
		ID       string `json:"id"`
		Username string `json:"username"`
		Error    struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	err = json.NewDecoder(response.Body).Decode(&body)
	switch {
	case response.StatusCode == http.StatusUnauthorized || body.Error.Code == 190:
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case response.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("Threads answers %d, code %d", response.StatusCode, body.Error.Code)
	}
	return map[string]any{"id": body.ID, "username": body.Username}, false, nil
}

// threadsMe calls Threads itself, with the person's token.
func (b *Backend) threadsMe(w http.ResponseWriter, h here) error {
	ctx, cancel := context.WithTimeout(h.Context(), 2*patience)
	defer cancel()
	user := h.session.UserID
	account, err := b.account(h)
	if err != nil {
		return err
	}
	token, err := Patiently(ctx, func(ctx context.Context) (string, error) {
		return b.Identity.AccessToken(ctx, account, user, []string{"threads_basic"}, "to show the handle")
	})
	if err != nil {
		return err
	}
	me, refused, err := b.askThreads(ctx, token)
	if err != nil {
		slog.Warn("Threads does not answer", "error", err)
		answer(w, http.StatusServiceUnavailable, map[string]string{"action": string(Wait), "reason": "THREADS_UNAVAILABLE"})
		return nil
	}
	if refused {
		// The service asks Threads itself, and gives the account up once it is sure; the
		// copy hears of it then.
		if _, err := b.Identity.ReportInvalid(ctx, account, user, token); err != nil {
			return err
		}
		answer(w, http.StatusServiceUnavailable, map[string]string{"action": string(Wait), "reason": "TOKEN_REFUSED"})
		return nil
	}
	answer(w, http.StatusOK, me)
	return nil
}
