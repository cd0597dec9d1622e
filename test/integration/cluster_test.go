//go:build integration

package integration

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// A fleet of separate processes serves a desktop through a relay, and the stream survives the loss of everything that does not
// carry it, and of the relay that does.
func TestCluster(t *testing.T) {
	c := rig.NewCluster(t, "-force-relay", "-open-pools", "*")
	p := browser.New(t, 1280, 720)
	p.OpenInvite(c.Invite("g1", "alice", "admin") + "&to=/desktop/default")
	p.Live()
	if s := p.Snapshot(); s.Path != "relay" {
		t.Fatalf("path %q, want relay", s.Path)
	}

	t.Run("leader killed", func(t *testing.T) {
		leader := c.Leader()
		untouched(t, p, func() { c.Process(leader).Kill() })
		c.Eventually("another leader", func() bool { return c.Leader() != leader })
		c.Restart(leader)
	})
	t.Run("gateway killed", func(t *testing.T) {
		untouched(t, p, func() { c.Process("g1").Kill() })
		c.Restart("g1")
		untouched(t, p, func() {
			p.Until("signaling is back", "wavry.log().findLast(l => /signal/i.test(l)).match(/open|back|resum/i)")
		})
	})
	t.Run("consul killed and emptied", func(t *testing.T) {
		untouched(t, p, func() { c.KillConsul() })
		c.StartConsul()
		c.AllPassing()
		untouched(t, p, func() {})
	})
	t.Run("keys rotated and revoked under load", func(t *testing.T) { keysUnderLoad(t, c, p) })
	t.Run("relay drained", func(t *testing.T) {
		before := p.Snapshot()
		c.Operator("relay", "drain", before.Relay)
		p.UntilGo("the session moved", func() bool { s := p.Snapshot(); return s.Moves > before.Moves && s.Relay != before.Relay })
		after := p.Snapshot()
		if after.Reconnects != before.Reconnects || after.Session != before.Session {
			t.Errorf("hand-over broke the session: %+v, before %+v", after, before)
		}
		t.Logf("largest gap between pictures %.0f ms", after.Gaps.P99)
		c.Operator("relay", "activate", before.Relay)
	})
	t.Run("relay killed", func(t *testing.T) {
		before := p.Snapshot()
		c.Process(before.Relay).Kill()
		started := time.Now()
		p.UntilGo("pictures through another relay", func() bool {
			s := p.Snapshot()
			return s.State == "live" && s.Relay != before.Relay && s.Presented > before.Presented
		})
		took := time.Since(started).Round(10 * time.Millisecond)
		t.Logf("back after %v", took)
		if took > 3*time.Second {
			t.Errorf("back after %v, want 3 s at most", took)
		}
		if s := p.Snapshot(); s.Session != before.Session {
			t.Errorf("session %s, was %s", s.Session, before.Session)
		}
		c.Restart(before.Relay)
		c.Passing("wavry-relay", before.Relay, true)
	})
	t.Run("relay clocks wrong", func(t *testing.T) { relayClocks(t, c, p) })
	t.Run("majority killed", func(t *testing.T) {
		leader := c.Leader()
		other := map[string]string{"m1": "m2", "m2": "m3", "m3": "m1"}[leader]
		untouched(t, p, func() {
			c.Process(leader).Kill()
			c.Process(other).Kill()
		})
		c.Restart(leader)
		c.Restart(other)
		c.Leader()
	})
	t.Run("host killed", func(t *testing.T) {
		var sessions struct {
			Sessions []struct {
				SessionID string `json:"sessionId"`
				HostID    string `json:"hostId"`
			} `json:"sessions"`
		}
		if err := json.Unmarshal([]byte(c.Operator("session", "list", "-json")), &sessions); err != nil {
			t.Fatal(err)
		}
		id, host := p.Snapshot().Session, ""
		for _, s := range sessions.Sessions {
			if s.SessionID == id {
				host = s.HostID
			}
		}
		if host == "" {
			t.Fatalf("session %s is not listed: %+v", id, sessions)
		}
		c.Process(host).Kill()
		p.UntilGo("the person is told and offered another", func() bool {
			return strings.Contains(browser.Eval[string](p, "document.body.innerText"), "The host was lost")
		})
		p.Shot("host-killed")
		c.Eventually("the slot is free", func() bool { return !strings.Contains(c.Operator("session", "list", "-json"), id) })
	})
}

// untouched does something and checks that pictures kept coming over the same connection.
func untouched(t *testing.T, p *browser.Page, do func()) {
	t.Helper()
	before := p.Snapshot()
	do()
	presented := p.Snapshot().Presented
	p.UntilGo("more pictures", func() bool { return p.Snapshot().Presented > presented+30 })
	if after := p.Snapshot(); after.Reconnects != before.Reconnects || after.Moves != before.Moves || after.State != "live" {
		t.Errorf("the stream was touched: %+v, before %+v", after, before)
	}
}
