package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

var (
	// ErrNotRunning is returned by what needs the store before Run has opened it.
	ErrNotRunning = errors.New("gateway is not running yet")
	// ErrRunTwice is returned by a second Run.
	ErrRunTwice = errors.New("gateway runs once")
)

// RefusalError is a "no" to a person: status for HTTP, reason for machines, message for the person.
type RefusalError struct {
	Status int
	signalapi.Refusal
}

func (e *RefusalError) Error() string { return e.Reason + ": " + e.Message }

func refuse(status int, reason, format string, args ...any) *RefusalError {
	return &RefusalError{status, signalapi.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

// after says when another try makes sense.
func (e *RefusalError) after(d time.Duration) *RefusalError {
	e.RetrySeconds = max(int((d+time.Second-1)/time.Second), 1)
	return e
}

func badRequest(format string, args ...any) *RefusalError {
	return refuse(http.StatusBadRequest, signalapi.ReasonBadRequest, format, args...)
}

func notSignedIn() *RefusalError {
	return refuse(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "Sign in first.")
}

func forbidden(format string, args ...any) *RefusalError {
	return refuse(http.StatusForbidden, signalapi.ReasonForbidden, format, args...)
}

func notFound(what string) *RefusalError {
	return refuse(http.StatusNotFound, signalapi.ReasonBadRequest, "There is no such %s.", what)
}

// storeRefusals is what the store's sentinels mean to a person.
var storeRefusals = []struct {
	err    error
	status int
	reason string
	text   string
}{
	{store.ErrNameTaken, http.StatusConflict, signalapi.ReasonBadRequest, "An account with this name exists; choose another name."},
	{store.ErrLinkUsed, http.StatusUnauthorized, signalapi.ReasonLinkUsed, "This link was used before or has expired; ask for a new one."},
	{store.ErrCodeUsed, http.StatusUnauthorized, signalapi.ReasonBadCredentials, "This code was used before; wait for the next one."},
	{store.ErrLastAdmin, http.StatusConflict, signalapi.ReasonBadRequest, "This is the last admin; make another account an admin first."},
	{store.ErrNotFound, http.StatusNotFound, signalapi.ReasonBadRequest, "There is no such thing; it may have been removed."},
	{credential.ErrBusy, http.StatusServiceUnavailable, signalapi.ReasonRateLimited, "Many people are signing in; try again in a moment."},
}

// refusalOf is the one table from errors to answers. internal is true for what nobody but us can mend: it is logged, not shown.
func refusalOf(err error) (refusal *RefusalError, internal bool) {
	if errors.As(err, &refusal) {
		return refusal, false
	}
	for _, r := range storeRefusals {
		if errors.Is(err, r.err) {
			refusal = refuse(r.status, r.reason, "%s", r.text)
			if r.err == credential.ErrBusy {
				refusal.RetrySeconds = 2
			}
			return refusal, false
		}
	}
	if errors.Is(err, credential.ErrWeakPassword) {
		return badRequest("%s.", err), false
	}
	if refusal := masterRefusal(err); refusal != nil {
		return refusal, false
	}
	return refuse(http.StatusInternalServerError, signalapi.ReasonInternal, "Something went wrong here; try again, and tell an operator if it repeats."), true
}

// masterStatus is the HTTP status of the master's wire codes; what is not listed is 409.
var masterStatus = map[connect.Code]int{
	connect.CodeInvalidArgument:   http.StatusBadRequest,
	connect.CodeResourceExhausted: http.StatusServiceUnavailable,
	connect.CodePermissionDenied:  http.StatusForbidden,
	connect.CodeNotFound:          http.StatusNotFound,
	connect.CodeUnavailable:       http.StatusServiceUnavailable,
}

// masterRefusal passes the master's refusals through unchanged and calls an unreachable master by its name. nil for other errors.
func masterRefusal(err error) *RefusalError {
	var refused *masterapi.RefusedError
	var wire *connect.Error
	switch {
	case errors.As(masterapiconnect.FromError(err), &refused):
		status, ok := masterStatus[connect.CodeOf(masterapiconnect.ToConnect(refused))]
		if !ok {
			status = http.StatusConflict
		}
		r := refuse(status, refused.Reason.Slug(), "%s", refused.Reason.Sentence())
		if refused.RetryAfter > 0 {
			r = r.after(refused.RetryAfter)
		}
		return r
	case errors.As(err, &wire), errors.Is(err, errMasterAway):
		return refuse(http.StatusServiceUnavailable, signalapi.ReasonMasterAway,
			"The fleet's master cannot be reached just now; running desktops go on. Try again in a moment.").after(2 * time.Second)
	}
	return nil
}

// errMasterAway marks an error of a call to the master that is no answer of the master.
var errMasterAway = errors.New("the master did not answer")
