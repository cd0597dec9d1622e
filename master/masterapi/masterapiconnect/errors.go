// Package masterapiconnect carries masterapi over the wire: the Connect services, generated, and what an error becomes on its way. It is apart
// from the messages, so that what only speaks of them (the replicated state above all) links no network code.
package masterapiconnect

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/master/masterapi"
)

// codes is the one table from reasons to wire codes. What is not listed is failed_precondition.
var codes = map[masterapi.Reason]connect.Code{
	masterapi.Reason_REASON_INVALID_REQUEST:     connect.CodeInvalidArgument,
	masterapi.Reason_REASON_NO_FREE_HOST:        connect.CodeResourceExhausted,
	masterapi.Reason_REASON_RELAY_FULL:          connect.CodeResourceExhausted,
	masterapi.Reason_REASON_RATE_LIMITED:        connect.CodeResourceExhausted,
	masterapi.Reason_REASON_NO_RELAY:            connect.CodeResourceExhausted,
	masterapi.Reason_REASON_BUSY:                connect.CodeResourceExhausted,
	masterapi.Reason_REASON_BANNED:              connect.CodePermissionDenied,
	masterapi.Reason_REASON_PERMISSION_DENIED:   connect.CodePermissionDenied,
	masterapi.Reason_REASON_UNAUTHENTICATED:     connect.CodeUnauthenticated,
	masterapi.Reason_REASON_POOL_UNKNOWN:        connect.CodeNotFound,
	masterapi.Reason_REASON_SESSION_UNKNOWN:     connect.CodeNotFound,
	masterapi.Reason_REASON_LEASE_UNKNOWN:       connect.CodeNotFound,
	masterapi.Reason_REASON_RELAY_UNKNOWN:       connect.CodeNotFound,
	masterapi.Reason_REASON_HOST_UNKNOWN:        connect.CodeNotFound,
	masterapi.Reason_REASON_KEY_UNKNOWN:         connect.CodeNotFound,
	masterapi.Reason_REASON_HOST_UNREACHABLE:    connect.CodeUnavailable,
	masterapi.Reason_REASON_HOST_PREPARE_FAILED: connect.CodeUnavailable,
	masterapi.Reason_REASON_NOT_READY:           connect.CodeUnavailable,
	masterapi.Reason_REASON_NO_SIGNING_KEY:      connect.CodeUnavailable,
	masterapi.Reason_REASON_REQUEST_CONFLICT:    connect.CodeAlreadyExists,
}

// ToConnect turns an error of the master into the error that goes over the wire: a *RefusedError or *NotLeaderError keeps its detail, anything
// else becomes internal. nil stays nil.
func ToConnect(err error) error {
	if err == nil {
		return nil
	}
	var refused *masterapi.RefusedError
	if errors.As(err, &refused) {
		code, ok := codes[refused.Reason]
		if !ok {
			code = connect.CodeFailedPrecondition
		}
		return withDetail(code, refused, refused.Message())
	}
	var notLeader *masterapi.NotLeaderError
	if errors.As(err, &notLeader) {
		return withDetail(connect.CodeUnavailable, notLeader, &masterapi.NotLeader{LeaderAddress: notLeader.Address})
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
		case *masterapi.Refusal:
			return m.Err()
		case *masterapi.NotLeader:
			return &masterapi.NotLeaderError{Address: m.GetLeaderAddress()}
		}
	}
	return err
}

// withDetail builds the wire error. Our own messages always marshal; a failure would only lose the detail, never the code.
func withDetail(code connect.Code, err error, message proto.Message) *connect.Error {
	wire := connect.NewError(code, err)
	if detail, detailErr := connect.NewErrorDetail(message); detailErr == nil {
		wire.AddDetail(detail)
	}
	return wire
}
