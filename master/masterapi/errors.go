package masterapi

import (
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
)

// RefusedError is a refusal with its machine reason. Every handler of this API returns it, and FromError finds it again on the client's side.
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

// codes is the one table from reasons to wire codes. What is not listed is failed_precondition.
var codes = map[Reason]connect.Code{
	Reason_REASON_INVALID_REQUEST:     connect.CodeInvalidArgument,
	Reason_REASON_NO_FREE_HOST:        connect.CodeResourceExhausted,
	Reason_REASON_RELAY_FULL:          connect.CodeResourceExhausted,
	Reason_REASON_RATE_LIMITED:        connect.CodeResourceExhausted,
	Reason_REASON_NO_RELAY:            connect.CodeResourceExhausted,
	Reason_REASON_BUSY:                connect.CodeResourceExhausted,
	Reason_REASON_BANNED:              connect.CodePermissionDenied,
	Reason_REASON_PERMISSION_DENIED:   connect.CodePermissionDenied,
	Reason_REASON_UNAUTHENTICATED:     connect.CodeUnauthenticated,
	Reason_REASON_POOL_UNKNOWN:        connect.CodeNotFound,
	Reason_REASON_SESSION_UNKNOWN:     connect.CodeNotFound,
	Reason_REASON_LEASE_UNKNOWN:       connect.CodeNotFound,
	Reason_REASON_RELAY_UNKNOWN:       connect.CodeNotFound,
	Reason_REASON_HOST_UNKNOWN:        connect.CodeNotFound,
	Reason_REASON_KEY_UNKNOWN:         connect.CodeNotFound,
	Reason_REASON_HOST_UNREACHABLE:    connect.CodeUnavailable,
	Reason_REASON_HOST_PREPARE_FAILED: connect.CodeUnavailable,
	Reason_REASON_NOT_READY:           connect.CodeUnavailable,
	Reason_REASON_NO_SIGNING_KEY:      connect.CodeUnavailable,
	Reason_REASON_REQUEST_CONFLICT:    connect.CodeAlreadyExists,
}

// ToConnect turns an error of the master into the error that goes over the wire: a *RefusedError or *NotLeaderError keeps its detail, anything
// else becomes internal. nil stays nil.
func ToConnect(err error) error {
	if err == nil {
		return nil
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		code, ok := codes[refused.Reason]
		if !ok {
			code = connect.CodeFailedPrecondition
		}
		return withDetail(code, refused, refused.Message())
	}
	var notLeader *NotLeaderError
	if errors.As(err, &notLeader) {
		return withDetail(connect.CodeUnavailable, notLeader, &NotLeader{LeaderAddress: notLeader.Address})
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return err
	}
	return connect.NewError(connect.CodeInternal, err)
}

// FromError returns the typed error that a wire error carries (*RefusedError, *NotLeaderError), wrapped around nothing, or err unchanged.
func FromError(err error) error {
	var wire *connect.Error
	if !errors.As(err, &wire) {
		return err
	}
	for _, d := range wire.Details() {
		message, decodeErr := d.Value()
		if decodeErr != nil {
			continue // a detail of a newer version: the code still says enough
		}
		switch m := message.(type) {
		case *Refusal:
			return m.Err()
		case *NotLeader:
			return &NotLeaderError{Address: m.GetLeaderAddress()}
		}
	}
	return err
}

// ReasonOf returns the reason of a refusal, on either side of the wire, and whether err is one.
func ReasonOf(err error) (Reason, bool) {
	var refused *RefusedError
	if errors.As(FromError(err), &refused) {
		return refused.Reason, true
	}
	return Reason_REASON_UNSPECIFIED, false
}
