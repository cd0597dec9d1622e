package master

import (
	"bytes"
	"testing"

	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/masterapi"
)

// desk allows host h1 the pool desk with two slots, and nobody else anything.
func desk(t *testing.T) func(*Config) {
	rules, err := hostrule.Parse([]string{"h1=desk/2"})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.HostRules = rules }
}

// TestHostTakesNoPool proves that a host which names a pool and slots of its own gets no session, that it cannot make itself active, that an operator's
// approval holds for what was approved only, and that a gateway may not approve.
func TestHostTakesNoPool(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, desk(t))
	c.leader()
	offer := func(pool string) func(*masterapi.HostHello) {
		return func(h *masterapi.HostHello) { h.Pool = pool }
	}
	c.host("h1", 2, offer("desk"))
	evil := c.host("evil", 64, offer("desk"))
	gw, op, ctx := c.client("t-gateway"), c.client("t-operator"), testContext(t)
	is := func(id string, word masterapi.HostStateWord) func() bool {
		return func() bool { return c.hostMessage(id).GetState() == word }
	}
	eventually(t, "the evil host is pending", is("evil", masterapi.HostStateWord_HOST_STATE_PENDING))
	eventually(t, "the honest host is active", is("h1", masterapi.HostStateWord_HOST_STATE_ACTIVE))
	if why := c.hostMessage("evil").Why(); why != "pool desk, 64 slots, region eu: no rule of host_rules allows that; wavry host approve, or write a rule" {
		t.Errorf("reason: %q", why)
	}
	admit := func(id string) (*masterapi.Grant, error) {
		r := request(id)
		r.Pool, r.DirectOnly = "desk", true
		return gw.Sessions().Admit(ctx, r)
	}
	for _, id := range []string{"1", "2"} {
		if g, err := admit(id); err != nil || g.GetHostId() != "h1" {
			t.Errorf("session %s: %v, %v", id, g.GetHostId(), err)
		}
	}
	if g, err := admit("3"); !isReason(err, masterapi.Reason_REASON_NO_FREE_HOST) {
		t.Errorf("a third session, with two slots allowed: %v, %v", g.GetHostId(), err)
	}
	// It says that it works again, and somebody who does not look activates it.
	evil.send(&masterapi.HostReport{Report: &masterapi.HostReport_State{State: &masterapi.HostState{Reason: "I am fine"}}})
	_, err := op.Fleet().SetHostState(ctx, &masterapi.SetHostStateRequest{HostId: "evil", State: masterapi.HostStateWord_HOST_STATE_ACTIVE})
	if !isReason(err, masterapi.Reason_REASON_TRANSITION_REFUSED) {
		t.Errorf("activate: %v", err)
	}
	// The way around: drain it first.
	for _, word := range []masterapi.HostStateWord{masterapi.HostStateWord_HOST_STATE_DRAINING, masterapi.HostStateWord_HOST_STATE_QUARANTINED} {
		if _, err := op.Fleet().SetHostState(ctx, &masterapi.SetHostStateRequest{HostId: "evil", State: word}); err != nil {
			t.Error(err)
		}
		_, err := op.Fleet().SetHostState(ctx, &masterapi.SetHostStateRequest{HostId: "evil", State: masterapi.HostStateWord_HOST_STATE_ACTIVE})
		if !isReason(err, masterapi.Reason_REASON_TRANSITION_REFUSED) {
			t.Errorf("activate after %s: %v", word, err)
		}
	}
	// An approval is for what the operator saw, and by an operator.
	other := c.host("h2", 1, offer("games"))
	seen := c.hostMessage("h2")
	approve := &masterapi.ApproveHostRequest{HostId: "h2", Pool: seen.GetPool(), Region: seen.GetRegion(), Slots: seen.GetSlots(), Identity: seen.GetIdentity()}
	if _, err := gw.Fleet().ApproveHost(ctx, approve); !isReason(err, masterapi.Reason_REASON_PERMISSION_DENIED) {
		t.Errorf("a gateway approves: %v", err)
	}
	approve.Slots = 2
	if _, err := op.Fleet().ApproveHost(ctx, approve); !isReason(err, masterapi.Reason_REASON_TRANSITION_REFUSED) {
		t.Errorf("approval of something else: %v", err)
	}
	approve.Slots = 1
	m, err := op.Fleet().ApproveHost(ctx, approve)
	if err != nil || m.GetState() != masterapi.HostStateWord_HOST_STATE_ACTIVE || m.GetApproval().GetActor() != "operator/ada" {
		t.Errorf("approval: %v, %v", m, err)
	}
	// More than was approved is pending again, on the standing link too; less is not.
	change := func(f func(h *masterapi.HostHello)) {
		f(other.hello)
		other.send(&masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: other.hello}})
	}
	change(func(h *masterapi.HostHello) { h.Slots = 2 })
	eventually(t, "pending with more slots", is("h2", masterapi.HostStateWord_HOST_STATE_PENDING))
	change(func(h *masterapi.HostHello) { h.Slots = 1 })
	eventually(t, "active with what was approved", is("h2", masterapi.HostStateWord_HOST_STATE_ACTIVE))
	change(func(h *masterapi.HostHello) { h.Pool = "desk" })
	eventually(t, "pending in another pool", is("h2", masterapi.HostStateWord_HOST_STATE_PENDING))
	change(func(h *masterapi.HostHello) { h.Pool, h.Identity = "games", make([]byte, 32) })
	eventually(t, "pending with another key", func() bool {
		h := c.hostMessage("h2")
		return h.GetPool() == "games" && h.GetState() == masterapi.HostStateWord_HOST_STATE_PENDING
	})
}

// TestRuleTakenBack proves that a rule which is gone from the configuration takes its hosts out at the next start, and that an approval stays.
func TestRuleTakenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := startCluster(t, 1, func(cfg *Config) { desk(t)(cfg); cfg.DataDir = dir })
	c.leader()
	h := c.host("h1", 1, func(h *masterapi.HostHello) { h.Pool = "desk" })
	eventually(t, "active by the rule", func() bool { return c.hostMessage("h1").GetRule() == "h1=desk/2" })
	c.servers[0].stop(t)
	c.servers[0].cfg.HostRules = nil
	c.restart(0)
	c.leader()
	eventually(t, "pending without the rule", func() bool {
		return h.link.Linked() && c.hostMessage("h1").GetState() == masterapi.HostStateWord_HOST_STATE_PENDING
	})
}

// TestBackupOnlyCopies proves that a backup may save the state, and do nothing else of what the API has.
func TestBackupOnlyCopies(t *testing.T) {
	t.Parallel()
	allowed := map[string]bool{"OperatorService/SaveSnapshot": true, "OperatorService/ServerStatus": true, "OperatorService/ListPeers": true, "KeyService/GetKeySet": true}
	backup := tokens["t-backup"]
	services := masterapi.File_master_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			procedure := string(services.Get(i).Name()) + "/" + string(methods.Get(j).Name())
			if refused := permit("/wavry.master.v1."+procedure, backup, true); (refused == nil) != allowed[procedure] {
				t.Errorf("%s: %v", procedure, refused)
			}
		}
	}
	c := startCluster(t, 1, func(cfg *Config) { cfg.DataDir = t.TempDir() })
	c.leader()
	var saved bytes.Buffer
	if err := c.client("t-backup").SaveSnapshot(testContext(t), &saved); err != nil || saved.Len() == 0 {
		t.Errorf("a backup saved %d bytes: %v", saved.Len(), err)
	}
}
