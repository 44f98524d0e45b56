package main

// The backend as a browser meets it, against the real service and the simulator.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "example.com/backend/gen/identityv1"
)

var (
	listen    = os.Getenv("LISTEN")
	simulator = os.Getenv("TEST_SIMULATOR_URL")
	people    atomic.Int64
	running   backendUnderTest
)

// backendUnderTest is the backend as main starts it, and what its watch has told of.
type backendUnderTest struct {
	accounts *Accounts
	mu       sync.Mutex
	changes  []*pb.AccountChange
}

func (b *backendUnderTest) note(change *pb.AccountChange) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, change)
	return nil
}

func TestMain(m *testing.M) {
	if listen == "" {
		fmt.Println("run me with examples/run")
		os.Exit(1)
	}
	folder, err := os.MkdirTemp("", "copy")
	must(err)
	running.accounts, err = OpenAccounts(filepath.Join(folder, "accounts.json"))
	must(err)
	identity, err := dial(os.Getenv("THREADS_IDENTITY_CALLER_KEY"))
	must(err)
	ctx, stop := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		(&Watcher{Identity: identity, Accounts: running.accounts, OnChange: running.note}).Run(ctx)
	}()
	listener, err := net.Listen("tcp", listen)
	must(err)
	backend := &Backend{Identity: identity, Accounts: running.accounts, GraphURL: os.Getenv("THREADS_GRAPH_URL")}
	server := &http.Server{Handler: backend.Handler()}
	go server.Serve(listener)
	for running.accounts.Cursor() == "" {
		time.Sleep(20 * time.Millisecond)
	}
	code := m.Run()
	server.Close()
	stop()
	<-watched
	identity.Close()
	os.RemoveAll(folder)
	os.Exit(code)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func dial(key string) (*Identity, error) {
	return Dial(os.Getenv("THREADS_IDENTITY_ADDRESS"), os.Getenv("THREADS_IDENTITY_CA_FILE"), key)
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it does not come to pass")
		}
	}
}

func post(t *testing.T, to string, body any) map[string]any {
	t.Helper()
	if body == nil {
		body = struct{}{}
	}
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(to, "application/json", bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode >= 300 {
		t.Fatalf("%s: %d %s", to, response.StatusCode, text)
	}
	answer := map[string]any{}
	json.Unmarshal(text, &answer)
	return answer
}

func simulate(t *testing.T, path string, body any) map[string]any {
	t.Helper()
	return post(t, simulator+"/_simulator/"+path, body)
}

func control(t *testing.T, path string) {
	t.Helper()
	post(t, os.Getenv("TEST_CONTROL_URL")+path, nil)
}

func asOurs(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an error of the service: %v", err)
	}
	return e
}

func TestAnAccountIsLinkedAndUsed(t *testing.T) {
	p := newPerson(t)
	profile := p.link(nil)
	if profile["threads_user_id"] != p.threadsID || profile["username"] != p.username {
		t.Fatal(profile)
	}
	if name, there := profile["name"]; !there || name != nil {
		t.Fatal("absent is not empty", profile)
	}
	if me := p.expect("/threads/me", http.StatusOK); me["id"] != p.threadsID {
		t.Fatal(me)
	}
	p.isTold("LINKED")
	eventually(t, func() bool { return p.copied() == "STATE_ACTIVE" })
}

func TestAPersonMaySayNo(t *testing.T) {
	p := newPerson(t)
	p.refused(p.consent("deny", nil), http.StatusConflict, Tell, "AUTHORIZATION_DENIED")
	if p.copied() != "0 accounts" {
		t.Fatal(p.copied())
	}
}

func TestWhoBringsNothingIsToldWhatToDo(t *testing.T) {
	p := newPerson(t)
	for _, path := range []string{"/me", "/threads/me"} {
		if told := p.expect(path, http.StatusNotFound); told["action"] != "link" {
			t.Fatal(path, told)
		}
	}
	for _, ticket := range []string{"", "?ticket=", "?ticket=" + strings.Repeat("a", 5000)} {
		if told := p.expect("/linked"+ticket, http.StatusGone); told["action"] != string(StartAgain) {
			t.Fatal(ticket, told)
		}
	}
	p.refused("/linked?ticket=forged", http.StatusGone, StartAgain, "STATE_INVALID")
}

func TestNobodyFinishesWhatSomebodyElseBegan(t *testing.T) {
	victim, attacker := newPerson(t), newPerson(t)
	back := attacker.consent("allow", nil)
	victim.refused(back, http.StatusGone, StartAgain, "SESSION_MISMATCH")
	// The attempt is over for everybody.
	attacker.refused(back, http.StatusGone, StartAgain, "AUTHORIZATION_CLOSED")
}

func TestWhoCallsTooOftenWaitsAsLongAsItIsTold(t *testing.T) {
	limited, err := dial(os.Getenv("TEST_LIMITED_CALLER_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	defer limited.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	call := func(ctx context.Context) (string, error) {
		return limited.AuthorizationURL(ctx, "user", []byte("0123456789abcdef"), "")
	}
	for range 3 {
		if _, err = call(ctx); err != nil {
			break
		}
	}
	e := asOurs(t, err)
	if e.Code != codes.ResourceExhausted || e.Reason != "CALLER_RATE_LIMITED" || e.Action() != Wait {
		t.Fatal(e)
	}
	if e.RetryDelay <= 0 || e.RetryDelay > 2*time.Second {
		t.Fatal(e.RetryDelay)
	}
	if _, err := Patiently(ctx, call); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsUnavailableIsRepeatedByTheChannel(t *testing.T) {
	p := newPerson(t)
	p.link(nil)
	// The service itself asks three times, so the first call fails and the second does not.
	simulate(t, "faults", map[string]any{"endpoint": "me", "fault": "html502", "times": 4})
	if me := p.expect("/me?fresh", http.StatusOK); me["username"] != p.username {
		t.Fatal(me)
	}
}

func TestWhatThreadsNoLongerTakesIsConsentedToAgain(t *testing.T) {
	p := newPerson(t)
	account := p.link(nil)["account_id"].(string)
	simulate(t, "personas/"+p.key+"/revoke", nil)
	// Nobody has told the service yet. Threads refuses the token, and that is reported.
	p.refused("/threads/me", http.StatusServiceUnavailable, Wait, "TOKEN_REFUSED")
	// Asked for a fresh profile, the service hears it from Threads itself.
	p.refused("/me?fresh", http.StatusForbidden, Consent, "REAUTHORIZATION_REQUIRED")
	// Refused twice: the account is given up, and the watch tells so.
	p.isTold("LINKED", "REAUTHORIZATION_REQUIRED")
	eventually(t, func() bool { return p.copied() == "STATE_REAUTHORIZATION_REQUIRED" })
	p.refused("/threads/me", http.StatusForbidden, Consent, "REAUTHORIZATION_REQUIRED")
	// The person consents again, for this very account.
	if p.link(url.Values{"again": {"yes"}})["account_id"] != account {
		t.Fatal("another account")
	}
	p.expect("/threads/me", http.StatusOK)
	p.isTold("LINKED", "REAUTHORIZATION_REQUIRED", "REAUTHORIZED")
}

func TestAConsentAsksForAllThatTheAccountHas(t *testing.T) {
	p := newPerson(t)
	identity, err := dial(os.Getenv("THREADS_IDENTITY_CALLER_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	defer identity.Close()
	binding := []byte("0123456789abcdef")
	away, err := identity.AuthorizationURL(t.Context(), p.userID, binding, "", "threads_manage_insights")
	if err != nil {
		t.Fatal(err)
	}
	back, err := url.Parse(p.decide("allow", away))
	if err != nil {
		t.Fatal(err)
	}
	done, err := identity.Complete(t.Context(), back.Query().Get("ticket"), p.userID, binding)
	if err != nil {
		t.Fatal(err)
	}
	away, err = identity.AuthorizationURL(t.Context(), p.userID, binding, done.Account.AccountId, "threads_content_publish")
	if err != nil {
		t.Fatal(err)
	}
	asked, err := url.Parse(away)
	if err != nil {
		t.Fatal(err)
	}
	scopes := strings.FieldsFunc(asked.Query().Get("scope"), func(c rune) bool { return c == ',' || c == ' ' })
	slices.Sort(scopes)
	if !slices.Equal(scopes, []string{"threads_basic", "threads_content_publish", "threads_manage_insights"}) {
		t.Fatal(scopes)
	}
}

func TestWhatIsUnlinkedLeavesTheCopy(t *testing.T) {
	p := newPerson(t)
	p.link(nil)
	eventually(t, func() bool { return p.copied() == "STATE_ACTIVE" })
	if status, body := p.do(p.browser.PostForm(backendURL("/unlink"), nil)); status != http.StatusNoContent {
		t.Fatal(status, body)
	}
	eventually(t, func() bool { return p.copied() == "0 accounts" })
	if told := p.expect("/me", http.StatusNotFound); told["action"] != "link" {
		t.Fatal(told)
	}
	p.link(nil)
	p.isTold("LINKED", "UNLINKED", "RELINKED")
	eventually(t, func() bool { return p.copied() == "STATE_ACTIVE" })
}

func TestAWatchGoesOnAfterARestartWithoutGapOrRepetition(t *testing.T) {
	before, gone, after := newPerson(t), newPerson(t), newPerson(t)
	before.link(nil)
	gone.link(nil)
	before.isTold("LINKED")
	gone.isTold("LINKED")
	// What happens while the service is away is told by the cursor alone.
	control(t, "/restart?erase="+gone.userID)
	// Calls are repeated by the channel until the service is back.
	after.link(nil)
	after.isTold("LINKED")
	before.isTold("LINKED")
	gone.isTold("LINKED", "ERASED")
	if gone.copied() != "0 accounts" {
		t.Fatal(gone.copied())
	}
}

func TestWhoCannotGoOnFromItsCursorBeginsAnew(t *testing.T) {
	before, after := newPerson(t), newPerson(t)
	before.link(nil)
	eventually(t, func() bool { return before.copied() == "STATE_ACTIVE" })
	// What is missing in the copy is brought back by a new list, and by nothing else.
	if err := running.accounts.Replace(nil, running.accounts.Cursor()); err != nil {
		t.Fatal(err)
	}
	control(t, "/restore")
	eventually(t, func() bool { return before.copied() == "STATE_ACTIVE" })
	after.link(nil)
	after.isTold("LINKED")
	before.isTold("LINKED")
}

func TestABadFieldIsNamed(t *testing.T) {
	identity, err := dial(os.Getenv("THREADS_IDENTITY_CALLER_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	defer identity.Close()
	_, err = identity.AuthorizationURL(t.Context(), "", []byte("short"), "")
	e := asOurs(t, err)
	if e.Code != codes.InvalidArgument || e.Reason != "FIELD_INVALID" || e.Action() != Alert {
		t.Fatal(e)
	}
	if len(e.Fields) != 2 || e.Fields["link.user_id"] == "" || e.Fields["link.session_binding"] == "" {
		t.Fatal(e.Fields)
	}
}

func TestAnUnknownCallerIsRefused(t *testing.T) {
	stranger, err := dial("tidkey_nobody")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_, err = stranger.ListAccounts(t.Context())
	if e := asOurs(t, err); e.Reason != "CALLER_UNKNOWN" || e.Action() != Alert {
		t.Fatal(e)
	}
}

func TestEveryReasonHasAnAction(t *testing.T) {
	for _, reason := range pb.ErrorReason_name {
		if _, known := actions[reason]; !known && reason != "ERROR_REASON_UNSPECIFIED" {
			t.Error(reason)
		}
	}
	if len(actions) != len(pb.ErrorReason_name)-1 {
		t.Error("there are actions for what is no reason")
	}
}
