package masterclient

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/wavry/fleet/master/masterapi"
)

func noDial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// Each server is tried once between two pauses; a server that refuses is given its pause.
func TestPauseAfterEveryServerWasTried(t *testing.T) {
	c, err := New(Config{Addresses: []string{"a:1", "b:1", "c:1"}, Dial: noDial})
	if err != nil {
		t.Fatal(err)
	}
	var b backoff
	fail := func(err error) (paused bool) {
		before, target := b.step, c.targets.pick()
		c.targets.failed(target)
		if err := c.pause(t.Context(), &b, target, err); err != nil {
			t.Fatal(err)
		}
		return b.step != before
	}
	dead := errors.New("connection refused")
	for range 2 {
		for n, want := range []bool{false, false, true} {
			if got := fail(dead); got != want {
				t.Errorf("failure %d: paused %v, want %v", n+1, got, want)
			}
		}
	}
	if !fail(masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "no leader")) {
		t.Error("no pause after a refusal")
	}
}
