package raftnode

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/state"
)

// The servers that are left give up one after the other, without a gap where the lost leader was.
func TestRankLeavesOutTheLeader(t *testing.T) {
	servers := []raft.Server{{ID: "c"}, {ID: "a"}, {ID: "n", Suffrage: raft.Nonvoter}, {ID: "b"}}
	for _, c := range []struct {
		id, leader string
		want       int
	}{{"b", "a", 0}, {"c", "a", 1}, {"a", "b", 0}, {"c", "b", 1}, {"a", "", 0}, {"c", "", 2}} {
		if got := rank(servers, c.id, c.leader); got != c.want {
			t.Errorf("rank of %s after %s = %d, want %d", c.id, c.leader, got, c.want)
		}
	}
}

// Raft takes both pairs of timeouts, and the second pair undoes the first.
func TestHurryChangesTimeouts(t *testing.T) {
	const election = 250 * time.Millisecond
	n, err := Open(Config{ID: "a", Advertise: "a", Election: election, Observe: func([]state.Event, bool) {}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, c := range []struct {
		on   bool
		want time.Duration
	}{{true, election / 2}, {false, election}} {
		n.hurry(c.on)
		if got := n.raft.ReloadableConfig(); got.HeartbeatTimeout != c.want || got.ElectionTimeout != c.want {
			t.Errorf("hurry(%v): timeouts %s and %s, want %s", c.on, got.HeartbeatTimeout, got.ElectionTimeout, c.want)
		}
	}
}
