package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Action is what a backend does about an error.
type Action string

const (
	Tell       Action = "tell"        // tell the person; nothing is broken
	StartAgain Action = "start_again" // this attempt is over: offer a new authorization URL
	Wait       Action = "wait"        // the same call, after RetryDelay
	Consent    Action = "consent"     // the person must consent again: an authorization URL with account_id
	Watch      Action = "watch"       // of a watch: open it again, or begin anew
	Alert      Action = "alert"       // a person must mend something: you, or whoever runs the service
)

// One line per reason in error_reason.proto, which says more about each.
var actions = map[string]Action{
	// You sent something that cannot be right.
	"FIELD_INVALID":      Alert,
	"REQUEST_MALFORMED":  Alert,
	"REQUEST_TOO_LARGE":  Alert,
	"METHOD_UNKNOWN":     Alert,
	"CALLER_UNKNOWN":     Alert,
	"CALLER_NOT_ALLOWED": Alert,
	// Not just now.
	"CALLER_RATE_LIMITED":       Wait,
	"DEADLINE_EXCEEDED":         Wait,
	"PROVIDER_RATE_LIMITED":     Wait,
	"PROVIDER_UNAVAILABLE":      Wait,
	"STORAGE_UNAVAILABLE":       Wait,
	"SHUTTING_DOWN":             Wait,
	"OVERLOADED":                Wait,
	"KEY_UNAVAILABLE":           Wait,
	"AUTHORIZATION_IN_PROGRESS": Wait,
	// How things stand.
	"ACCOUNT_NOT_FOUND":              Tell,
	"PROFILE_NOT_FOUND":              Tell,
	"AUTHORIZATION_NOT_FOUND":        Tell,
	"AUTHORIZATION_DENIED":           Tell,
	"ACCOUNT_LINKED_TO_ANOTHER_USER": Tell,
	"ACCOUNT_MISMATCH":               Tell,
	"ACCOUNT_UNLINKED":               StartAgain,
	"STATE_INVALID":                  StartAgain,
	"SESSION_MISMATCH":               StartAgain,
	"AUTHORIZATION_EXPIRED":          StartAgain,
	"AUTHORIZATION_CLOSED":           StartAgain,
	"CODE_REJECTED":                  StartAgain,
	"AUTHORIZATION_INTERRUPTED":      StartAgain,
	"REAUTHORIZATION_REQUIRED":       Consent,
	"PERMISSION_MISSING":             Consent,
	// Of watches.
	"CURSOR_EXPIRED": Watch,
	"WATCH_LAGGED":   Watch,
	// The operator looks for the request id in the log.
	"PROVIDER_CONFIGURATION":     Alert,
	"PROVIDER_IDENTITY_CONFLICT": Alert,
	"SEALED_DATA_INVALID":        Alert,
	"INTERNAL":                   Alert,
}

// Error is an error of the service, or of the way to it; then Reason is empty.
// Match on Reason, never on the message.
type Error struct {
	Code       codes.Code
	Reason     string
	Message    string
	Metadata   map[string]string
	Fields     map[string]string // what is wrong with which field
	RetryDelay time.Duration     // zero: the service did not say
}

// AsError reads what a gRPC error carries. It makes nil of nil.
func AsError(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	e := &Error{Code: s.Code(), Message: s.Message(), Fields: map[string]string{}}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "threads.identity.v1" {
				e.Reason, e.Metadata = detail.Reason, detail.Metadata
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				e.Fields[violation.Field] = violation.Description
			}
		case *errdetails.RetryInfo:
			e.RetryDelay = detail.RetryDelay.AsDuration()
		}
	}
	return e
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %s %v", e.Code, e.Reason, e.Message, e.Fields)
}

// Action says what to do.
func (e *Error) Action() Action {
	// These tell of a completion when they name an authorization, which is over then.
	if _, ended := e.Metadata["authorization_id"]; ended {
		switch e.Reason {
		case "PROVIDER_RATE_LIMITED", "REAUTHORIZATION_REQUIRED":
			return StartAgain
		case "PERMISSION_MISSING":
			return Tell
		}
	}
	if action, known := actions[e.Reason]; known {
		return action
	}
	// A reason from after this was written, or none: a connection that broke, say.
	if e.RetryDelay > 0 || e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded {
		return Wait
	}
	return Alert
}

// Patiently makes the call, and makes it again for as long as waiting helps and
// ctx allows it. Every call of this API may be repeated. UNAVAILABLE has been
// repeated by the channel already (see the service config); here the rest is
// waited for, as long as the service says.
func Patiently[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	for {
		answer, err := call(ctx)
		e, ours := err.(*Error)
		if !ours || e.Action() != Wait {
			return answer, err
		}
		delay := e.RetryDelay
		if delay == 0 {
			delay = time.Second
		}
		delay += rand.N(delay/5 + 1) // not all at once
		if until, ends := ctx.Deadline(); ends && time.Until(until) < delay {
			return answer, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return answer, err
		}
	}
}
