package masterapi

import (
	"errors"
	"fmt"
	"time"
)

// RefusedError is a refusal with its machine reason. Every handler of this API returns it, and masterclient's calls return it again.
type RefusedError struct {
	Reason Reason
	// Detail names what was refused; it may be empty.
	Detail string
	// RetryAfter is > 0 when the same call may succeed later.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	if e.Detail == "" {
		return e.Reason.Slug() + ": " + e.Reason.Sentence()
	}
	return e.Reason.Slug() + ": " + e.Detail + ": " + e.Reason.Sentence()
}

// Refuse returns a refusal whose detail is the formatted text.
func Refuse(reason Reason, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// After sets the time after which a retry makes sense and returns e.
func (e *RefusedError) After(d time.Duration) *RefusedError {
	e.RetryAfter = d
	return e
}

// NotLeaderError is what a follower gives to a stream: dial Address instead; empty while there is no leader.
type NotLeaderError struct{ Address string }

func (e *NotLeaderError) Error() string {
	if e.Address == "" {
		return "no leader"
	}
	return "not the leader: it is " + e.Address
}

// Message is the refusal as it goes over the wire.
func (e *RefusedError) Message() *Refusal {
	return &Refusal{Reason: e.Reason, Sentence: e.Reason.Sentence(), Detail: e.Detail, RetryAfterMs: uint32(e.RetryAfter.Milliseconds())}
}

// Err is the refusal as an error; nil for nil.
func (r *Refusal) Err() error {
	if r == nil {
		return nil
	}
	return &RefusedError{Reason: r.GetReason(), Detail: r.GetDetail(), RetryAfter: time.Duration(r.GetRetryAfterMs()) * time.Millisecond}
}

// ReasonOf returns the reason of a refusal, and whether err is one.
func ReasonOf(err error) (Reason, bool) {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reason, true
	}
	return Reason_REASON_UNSPECIFIED, false
}
