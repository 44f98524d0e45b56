package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// person is somebody with a Threads account and a browser that is logged in here.
type person struct {
	t                                *testing.T
	userID, key, threadsID, username string
	browser                          *http.Client
}

func newPerson(t *testing.T) *person {
	t.Helper()
	number := people.Add(1)
	key := fmt.Sprintf("person%d", number)
	p := &person{
		t: t, key: key, userID: fmt.Sprintf("user-%d", number),
		threadsID: fmt.Sprint(17841405793190000 + number), username: key + ".sim",
	}
	simulate(t, "personas", map[string]string{"key": key, "id": p.threadsID, "username": p.username})
	jar, _ := cookiejar.New(nil)
	p.browser = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	if status, body := p.do(p.browser.PostForm(backendURL("/login"), url.Values{"user_id": {p.userID}})); status != 204 {
		t.Fatal(status, body)
	}
	return p
}

func backendURL(path string) string { return "http://" + listen + path }

func (p *person) do(response *http.Response, err error) (int, map[string]any) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body := map[string]any{}
	json.NewDecoder(response.Body).Decode(&body)
	return response.StatusCode, body
}

// sentTo says where a browser is sent on to.
func (p *person) sentTo(response *http.Response, err error) string {
	p.t.Helper()
	if status, body := p.do(response, err); status != http.StatusSeeOther {
		p.t.Fatal(status, body)
	}
	return response.Header.Get("Location")
}

// consent presses "link", decides at Threads, and says where the browser is sent then.
func (p *person) consent(decision string, form url.Values) string {
	p.t.Helper()
	return p.decide(decision, p.sentTo(p.browser.PostForm(backendURL("/link"), form)))
}

// decide decides at Threads, and says where the browser is sent then.
func (p *person) decide(decision, away string) string {
	p.t.Helper()
	clicked := simulate(p.t, "consent", map[string]string{"persona": p.key, "decision": decision, "authorization_url": away})
	return p.sentTo(p.browser.Get(clicked["callback_url"].(string)))
}

// link goes the whole way, to the profile.
func (p *person) link(form url.Values) map[string]any {
	p.t.Helper()
	if to := p.sentTo(p.browser.Get(p.consent("allow", form))); to != "/me" {
		p.t.Fatal(to)
	}
	return p.expect("/me", http.StatusOK)
}

func (p *person) expect(path string, status int) map[string]any {
	p.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = backendURL(path)
	}
	got, body := p.do(p.browser.Get(path))
	if got != status {
		p.t.Fatalf("%s: %d, not %d: %v", path, got, status, body)
	}
	return body
}

func (p *person) refused(path string, status int, action Action, reason string) {
	p.t.Helper()
	body := p.expect(path, status)
	if body["action"] != string(action) || body["reason"] != reason {
		p.t.Fatalf("%s: %v, not %s, %s", path, body, action, reason)
	}
}

// told lists what the watch has told of the person, in order.
func (p *person) told() []string {
	running.mu.Lock()
	defer running.mu.Unlock()
	kinds := []string{}
	for _, change := range running.changes {
		if change.UserId == p.userID {
			kinds = append(kinds, strings.TrimPrefix(change.Kind.String(), "KIND_"))
		}
	}
	return kinds
}

func (p *person) isTold(kinds ...string) {
	p.t.Helper()
	eventually(p.t, func() bool { return slices.Equal(p.told(), kinds) })
}

// copied is how the person's account stands in the copy.
func (p *person) copied() string {
	p.t.Helper()
	response, err := p.browser.Get(backendURL("/accounts"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	var accounts []Account
	if err := json.NewDecoder(response.Body).Decode(&accounts); err != nil {
		p.t.Fatal(err)
	}
	if len(accounts) != 1 {
		return fmt.Sprintf("%d accounts", len(accounts))
	}
	return accounts[0].State
}
