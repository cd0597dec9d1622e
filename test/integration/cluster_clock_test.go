//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wavry/fleet/relay/relaywire"
	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// relayClocks lets one relay run 30 s ahead and the other 30 s behind: both carry the session and refuse nothing. One that is minutes off
// refuses what it is given, counted and explained to the operator, and the session stays where it was.
func relayClocks(t *testing.T, c *rig.Cluster, p *browser.Page) {
	for id, shift := range map[string]string{"r1": "30s", "r2": "-30s"} {
		wrongClock(t, c, id, shift)
	}
	p.UntilGo("pictures through a relay whose clock is wrong", func() bool { return p.Snapshot().State == "live" })
	first := p.Snapshot().Relay
	other := map[string]string{"r1": "r2", "r2": "r1"}[first]
	handOver(t, c, p, first, other)
	for _, id := range []string{"r1", "r2"} {
		for _, reason := range relaywire.Reasons {
			if n := c.Metric(id, refusals(reason)); n != 0 {
				t.Errorf("%s refused %v times: %v", id, n, reason)
			}
		}
	}

	for shift, reason := range map[string]relaywire.Reason{"-10m": relaywire.NotYetValid, "10m": relaywire.Expired} {
		wrongClock(t, c, first, shift)
		before := p.Snapshot()
		c.Operator("relay", "drain", other)
		c.Eventually("refused as "+reason.String(), func() bool { return c.Metric(first, refusals(reason)) > 0 })
		c.Eventually("the operator is told", func() bool { return strings.Contains(c.Operator("relay", "show", first), reason.Help()) })
		if after := p.Snapshot(); after.Relay != other || after.Reconnects != before.Reconnects || after.State != "live" {
			t.Errorf("with a clock off by %s the session became %+v, was %+v", shift, after, before)
		}
		c.Operator("relay", "activate", other)
	}
	restartRelay(c, first)
}

// wrongClock starts a relay again with its clock shifted.
func wrongClock(t *testing.T, c *rig.Cluster, id, shift string) {
	t.Helper()
	restartRelay(c, id, "WAVRY_DEBUG_RELAY_CLOCK="+shift)
	c.Process(id).WaitFor("this clock and the master's differ")
}

// restartRelay kills a relay and starts it again. Consul must miss it first, or it would take the old one's health for the new one's.
func restartRelay(c *rig.Cluster, id string, environ ...string) {
	c.Process(id).Kill()
	c.Passing("wavry-relay", id, false)
	c.Restart(id, environ...)
	c.Passing("wavry-relay", id, true)
}

// handOver drains the relay that carries the session until another does.
func handOver(t *testing.T, c *rig.Cluster, p *browser.Page, from, to string) {
	t.Helper()
	before := p.Snapshot()
	c.Operator("relay", "drain", from)
	p.UntilGo("the session moved", func() bool { s := p.Snapshot(); return s.Relay == to && s.Presented > before.Presented })
	c.Operator("relay", "activate", from)
}

func refusals(r relaywire.Reason) string {
	return fmt.Sprintf(`wavry_relay_rejects_total{reason="%s"}`, r)
}
