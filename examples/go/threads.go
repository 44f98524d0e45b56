package main

import (
	"context"
	"encoding/json"
	"fmt"
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
