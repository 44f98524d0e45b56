package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"

	pb "example.com/backend/gen/identityv1"
)

// Account is what this backend keeps of an account.
type Account struct {
	AccountID     string `json:"account_id"`
	UserID        string `json:"user_id"`
	ThreadsUserID string `json:"threads_user_id"`
	State         string `json:"state"`
	StateReason   string `json:"state_reason"`
}

// Accounts is a copy of the linked accounts, and the cursor up to which it is
// true. The two change together: in your service they are two tables and one
// transaction; here, one file.
type Accounts struct {
	file string
	mu   sync.Mutex
	kept struct {
		Cursor   string             `json:"cursor"`
		Accounts map[string]Account `json:"accounts"`
	}
}

// OpenAccounts reads the copy, if there is one already.
func OpenAccounts(file string) (*Accounts, error) {
	a := &Accounts{file: file}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &a.kept)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if a.kept.Accounts == nil {
		a.kept.Accounts = map[string]Account{}
	}
	return a, err
}

// Cursor is where to go on from; empty if there is no copy.
func (a *Accounts) Cursor() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept.Cursor
}

// Of lists a user's accounts.
func (a *Accounts) Of(userID string) []Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := []Account{}
	for _, account := range a.kept.Accounts {
		if account.UserID == userID {
			found = append(found, account)
		}
	}
	return found
}

// Replace puts a list in place of the copy.
func (a *Accounts) Replace(accounts []*pb.Account, cursor string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept.Accounts = map[string]Account{}
	for _, account := range accounts {
		a.kept.Accounts[account.AccountId] = entry(account)
	}
	return a.keep(cursor)
}

// Apply takes in a change, if there is one: not what differs, but how the account
// stands now.
func (a *Accounts) Apply(change *pb.AccountChange, cursor string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	account := change.GetAccount()
	if change.GetKind() == pb.AccountChange_KIND_ERASED || account.GetState() == pb.Account_STATE_UNLINKED {
		delete(a.kept.Accounts, change.AccountId)
	} else if account != nil {
		a.kept.Accounts[account.AccountId] = entry(account)
	}
	return a.keep(cursor)
}

// ForgetCursor makes the next watch begin anew.
func (a *Accounts) ForgetCursor() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keep("")
}

func (a *Accounts) keep(cursor string) error {
	a.kept.Cursor = cursor
	text, err := json.Marshal(a.kept)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(a.file+".new", a.file)
}

func entry(account *pb.Account) Account {
	return Account{
		AccountID:     account.AccountId,
		UserID:        account.UserId,
		ThreadsUserID: account.ThreadsUserId,
		State:         account.State.String(),
		StateReason:   account.StateReason.String(),
	}
}
