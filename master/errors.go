package master

import (
	"context"
	"errors"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
	"github.com/wavry/fleet/master/raftnode"
)

var (
	// errNoLink is the cause when a host or relay is not linked to this leader.
	errNoLink = errors.New("no link")
	// errLinkReplaced ends a link when a newer one of the same machine came.
	errLinkReplaced = errors.New("replaced by a newer link of the same machine")
	// errLinkSilent ends a link whose machine reported nothing for too long.
	errLinkSilent = errors.New("no report for too long")
	// errLinkSlow ends a link whose machine does not take its commands.
	errLinkSlow = errors.New("machine does not take its commands")
	// errLinkRevoked ends a link whose machine may not speak any more.
	errLinkRevoked = masterapi.Refuse(masterapi.Reason_REASON_UNAUTHENTICATED, "revoked")
	// errDeposed ends what only the leader does.
	errDeposed = errors.New("this server leads no more")
)

// apiError maps an error of the inside to one of the API. Every handler's error goes through it.
func apiError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftnode.ErrBusy):
		return masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_BUSY, "").After(retrySoon))
	case errors.Is(err, raftnode.ErrNotLeader), errors.Is(err, errDeposed):
		return masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "%v", err).After(retrySoon))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "%v", err).After(retrySoon))
	default:
		return masterapiconnect.ToConnect(err)
	}
}
