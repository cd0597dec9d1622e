package masterapiconnect

import (
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/masterapi"
)

// TestErrorsCrossTheWire proves that reason, detail, retry time and leader survive ToConnect and FromError.
func TestErrorsCrossTheWire(t *testing.T) {
	err := FromError(ToConnect(masterapi.Refuse(masterapi.Reason_REASON_NO_FREE_HOST, "pool %q", "gnome").After(2 * time.Second)))
	var refused *masterapi.RefusedError
	if !errors.As(err, &refused) || refused.Reason != masterapi.Reason_REASON_NO_FREE_HOST || refused.Detail != `pool "gnome"` || refused.RetryAfter != 2*time.Second {
		t.Errorf("refusal came back as %#v", err)
	}
	err = FromError(ToConnect(&masterapi.NotLeaderError{Address: "10.0.0.1:7401"}))
	var notLeader *masterapi.NotLeaderError
	if !errors.As(err, &notLeader) || notLeader.Address != "10.0.0.1:7401" {
		t.Errorf("not leader came back as %#v", err)
	}
	if code := connect.CodeOf(ToConnect(errors.New("boom"))); code != connect.CodeInternal {
		t.Errorf("plain error has code %s", code)
	}
	if ToConnect(nil) != nil {
		t.Error("nil became an error")
	}
	if reason, ok := masterapi.ReasonOf(FromError(ToConnect(masterapi.Refuse(masterapi.Reason_REASON_BANNED, "x")))); !ok || reason != masterapi.Reason_REASON_BANNED {
		t.Errorf("ReasonOf = %s, %v", reason, ok)
	}
}
