package main

import (
	"crypto/rand"
	"net/http"
	"sync"
)

// Session is what the backend knows of a browser that is logged in.
type Session struct {
	UserID  string
	Binding []byte // what only this browser's session knows
	Account string // the account that was linked in it
}

// Sessions stands in for the sessions that you have. They are lost with the process.
type Sessions struct {
	mu   sync.Mutex
	byID map[string]Session
}

const sessionCookie = "session"

// Begin logs a browser in.
func (s *Sessions) Begin(w http.ResponseWriter, userID string) {
	binding := make([]byte, 16)
	rand.Read(binding)
	id := rand.Text()
	s.put(id, Session{UserID: userID, Binding: binding})
	// Lax: no other site's form is sent with our cookie, and the way back from Threads is.
	// Behind https, also Secure.
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// Of finds a browser's session.
func (s *Sessions) Of(r *http.Request) (id string, session Session, found bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", Session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session, found = s.byID[cookie.Value]
	return cookie.Value, session, found
}

func (s *Sessions) put(id string, session Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]Session{}
	}
	s.byID[id] = session
}
