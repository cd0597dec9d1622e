package master

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// TestAdmission proves the whole way of an admission: a grant with a token that verifies offline, direct and relay candidates, and the host's signature;
// that a retry gives the same lease; and that the end reaches host and gateway.
func TestAdmission(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h, r := c.host("h1", 2, nil), c.activeRelay("r1")
	gw := c.client("t-gateway")
	events := watch(t, c)
	ctx := testContext(t)
	grant, err := gw.Sessions().Admit(ctx, request("q1"))
	if err != nil {
		t.Fatal(err)
	}
	claims, reason := h.keys.VerifyViewer(grant.GetViewerToken(), time.Now())
	if reason != 0 || claims.Session != grant.GetSessionId() || claims.Lease != grant.GetLeaseId() || claims.Role != lease.RoleControl {
		t.Errorf("claims %+v, reason %s", claims, reason)
	}
	var prepared *masterapi.Prepare
	h.with(func() { prepared = h.prepared[grant.GetLeaseId()] })
	circuit, err := h.keys.KeySet().VerifyCircuit(prepared.GetCircuitToken(), time.Now())
	if err != nil || circuit.Relay != "r1" || circuit.Circuit == 0 || circuit.ViewerAddress.String() != "203.0.113.7" || circuit.Lease != grant.GetLeaseId() ||
		string(circuit.HostIdentity) != string(h.hello.GetIdentity()) {
		t.Errorf("circuit %+v, %v", circuit, err)
	}
	// A gateway has no use for the circuit's token, and the host and the relay refuse each other's.
	if _, reason := h.keys.VerifyViewer(prepared.GetCircuitToken(), time.Now()); reason != masterapi.Reason_REASON_WRONG_USE {
		t.Errorf("the circuit's token as a viewer's: %s", reason)
	}
	if token := circuitToken(t, gw, grant); token != "" {
		t.Error("a gateway gets the circuit's token by renewing")
	}
	if token := circuitToken(t, c.client("t-host"), grant); token == "" {
		t.Error("the host gets no circuit's token by renewing")
	}
	eventually(t, "the host has the token of the gateway's renewal", h.is(func() bool { return h.renewed[grant.GetLeaseId()] != "" }))
	cs := grant.GetCandidates()
	if len(cs) != 2 || cs[0].GetKind() != masterapi.CandidateKind_CANDIDATE_KIND_DIRECT || cs[1].GetAddress() != "198.51.100.1:5001" || cs[1].GetRelayId() != "r1" {
		t.Errorf("candidates %v", cs)
	}
	again, err := gw.Sessions().Admit(ctx, request("q1"))
	if err != nil || again.GetLeaseId() != grant.GetLeaseId() || again.GetSessionId() != grant.GetSessionId() {
		t.Errorf("retry: %v, %v", again, err)
	}
	h.progress(grant.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE)
	eventually(t, "session active", func() bool {
		s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: grant.GetSessionId()})
		return err == nil && s.GetState() == masterapi.SessionState_SESSION_STATE_ACTIVE
	})
	events.expect(t, masterapi.SessionEvent_KIND_PATH)
	hosts, err := gw.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
	if err != nil || len(hosts.GetHosts()) != 1 || hosts.GetHosts()[0].GetSlotsUsed() != 1 {
		t.Errorf("hosts %v, %v", hosts, err)
	}
	if _, err := gw.Sessions().EndSession(ctx, &masterapi.EndSessionRequest{SessionId: grant.GetSessionId(), Message: "bye"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "host told", h.is(func() bool { return h.ended[grant.GetSessionId()] == masterapi.Reason_REASON_USER_ENDED }))
	if e := events.expect(t, masterapi.SessionEvent_KIND_ENDED); e.GetMessage() != "bye" {
		t.Errorf("event %v", e)
	}
	if r.keySet == nil {
		t.Error("the relay got no key set")
	}
}

// circuitToken is what a caller gets of it when it renews.
func circuitToken(t *testing.T, c *masterclient.Client, g *masterapi.Grant) string {
	t.Helper()
	r, err := c.Leases().Renew(testContext(t), &masterapi.RenewRequest{LeaseId: g.GetLeaseId()})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetCircuitToken()
}

// TestRefusals proves the reason of each refusal an admission can meet.
func TestRefusals(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	gw, op, ctx := c.client("t-gateway"), c.client("t-operator"), testContext(t)
	refused := func(name string, want masterapi.Reason, r *masterapi.AdmitRequest) {
		t.Helper()
		_, err := gw.Sessions().Admit(ctx, r)
		if got, ok := masterapi.ReasonOf(err); !ok || got != want {
			t.Errorf("%s: %v, want %s", name, err, want.Slug())
		}
	}
	refused("no pool", masterapi.Reason_REASON_POOL_UNKNOWN, request("a"))
	h := c.host("h1", 1, nil)
	force := request("b")
	force.ForceRelay = true
	c.settle()
	refused("no relay", masterapi.Reason_REASON_NO_RELAY, force)
	refused("no login", masterapi.Reason_REASON_INVALID_REQUEST, &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "c"})
	bad := request("d")
	bad.ViewerAddress = "nowhere"
	refused("bad address", masterapi.Reason_REASON_INVALID_REQUEST, bad)
	h.with(func() { h.fail = masterapi.Reason_REASON_HOST_FAILED })
	refused("host fails", masterapi.Reason_REASON_HOST_PREPARE_FAILED, request("e"))
	h.with(func() { h.fail = 0 })
	if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: masterapi.Ban_KIND_LOGIN, Subject: "eve", Reason: "noise"}); err != nil {
		t.Fatal(err)
	}
	banned := request("f")
	banned.Login = "eve"
	refused("banned", masterapi.Reason_REASON_BANNED, banned)
	g, err := gw.Sessions().Admit(ctx, request("g"))
	if err != nil {
		t.Fatalf("after a failed host the slot is not free again: %v", err)
	}
	if g.GetRelayMissing() != masterapi.Reason_REASON_NO_RELAY {
		t.Errorf("relay missing: %s", g.GetRelayMissing())
	}
	refused("full", masterapi.Reason_REASON_NO_FREE_HOST, request("h"))
	other := request("g")
	other.Login = "bob"
	refused("conflict", masterapi.Reason_REASON_REQUEST_CONFLICT, other)
	add := &masterapi.AddViewerRequest{ViewerKey: viewerKey, RequestId: "i", SessionId: g.GetSessionId(), Login: "bob", ViewerId: "v2"}
	if _, err := gw.Sessions().AddViewer(ctx, add); !isReason(err, masterapi.Reason_REASON_SESSION_HAS_CONTROLLER) {
		t.Errorf("second controller: %v", err)
	}
	add.Role = masterapi.ViewerRole_VIEWER_ROLE_WATCH
	if w, err := gw.Sessions().AddViewer(ctx, add); err != nil || w.GetSessionId() != g.GetSessionId() || w.GetRole() != masterapi.ViewerRole_VIEWER_ROLE_WATCH {
		t.Errorf("watcher: %v, %v", w, err)
	}
}

// settle lets the leader believe that its hosts had the time to link, so that refusals come at once.
func (c *cluster) settle() {
	for _, s := range c.servers {
		if l := s.Master.leader.Load(); l != nil {
			l.fleet.mu.Lock()
			l.fleet.elected = l.fleet.elected.Add(-time.Hour)
			l.fleet.mu.Unlock()
		}
	}
}

func isReason(err error, want masterapi.Reason) bool {
	got, ok := masterapi.ReasonOf(err)
	return ok && got == want
}

// TestRolesAreEnforced proves that each service may do its own part only and that strangers may fetch nothing but the public keys.
func TestRolesAreEnforced(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	ctx := testContext(t)
	for name, err := range map[string]error{
		"relay rotates keys": second(c.client("t-relay").Keys().Rotate(ctx, &masterapi.RotateKeyRequest{})),
		"host admits":        second(c.client("t-host").Sessions().Admit(ctx, request("x"))),
		"relay drains":       second(c.client("t-relay").Fleet().SetRelayState(ctx, &masterapi.SetRelayStateRequest{})),
		"operator joins":     second(c.client("t-operator").Operator().Join(ctx, &masterapi.JoinRequest{})),
	} {
		if !isReason(err, masterapi.Reason_REASON_PERMISSION_DENIED) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := second(c.client("wrong").Sessions().Admit(ctx, request("x"))); !isReason(err, masterapi.Reason_REASON_UNAUTHENTICATED) {
		t.Errorf("wrong token: %v", err)
	}
	stranger := c.client("t-host1").NewHostLink(func() *masterapi.HostHello {
		return &masterapi.HostHello{HostId: "h2", BootId: "b", Identity: make([]byte, 32)}
	}, func(*masterapi.HostCommand) {
		t.Error("a host was welcomed under another host's name")
	})
	runFor(t, stranger.Run, 300*time.Millisecond)
}

func second[T any](_ T, err error) error { return err }

// TestKeysRotateAndRevoke proves that leases of before and after a rotation verify, that hosts and relays learn of each change, and that a revoked key
// ends its leases.
func TestKeysRotateAndRevoke(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h, op, gw, ctx := c.host("h1", 5, nil), c.client("t-operator"), c.client("t-gateway"), testContext(t)
	first, err := gw.Sessions().Admit(ctx, request("1"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := op.Keys().Rotate(ctx, &masterapi.RotateKeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := gw.Sessions().Admit(ctx, request("2"))
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*masterapi.Grant{"before": first, "after": second} {
		if _, reason := h.keys.VerifyViewer(g.GetViewerToken(), time.Now()); reason != 0 {
			t.Errorf("lease from %s the rotation: %s", name, reason)
		}
	}
	old := keys.GetKeys()[0]
	if old.GetState() != masterapi.KeyState_KEY_STATE_RETIRING || old.GetLiveLeases() != 1 {
		t.Errorf("old key %v", old)
	}
	if _, err := op.Keys().Revoke(ctx, &masterapi.RevokeKeyRequest{KeyId: old.GetKeyId()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "session of the revoked key ended", h.is(func() bool { return h.ended[first.GetSessionId()] == masterapi.Reason_REASON_KEY_REVOKED }))
	eventually(t, "old token refused", func() bool {
		_, reason := h.keys.VerifyViewer(first.GetViewerToken(), time.Now())
		return reason == masterapi.Reason_REASON_UNKNOWN_KEY
	})
	if _, reason := h.keys.VerifyViewer(second.GetViewerToken(), time.Now()); reason != 0 {
		t.Errorf("a lease of another key: %s", reason)
	}
	audit, err := op.Operator().ListAudit(ctx, &masterapi.ListAuditRequest{})
	if err != nil || len(audit.GetEntries()) != 2 || audit.GetEntries()[0].GetAction() != "key revoke" || audit.GetEntries()[0].GetActor() != "operator/ada" {
		t.Errorf("audit %v, %v", audit, err)
	}
}

// TestLeasesEnd proves renewal by the host, revocation of one lease, and expiry of one nobody renews.
func TestLeasesEnd(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, func(c *Config) { c.LeaseLifetime = 2 * time.Second })
	c.leader()
	h, op, gw, ctx := c.host("h1", 5, nil), c.client("t-operator"), c.client("t-gateway"), testContext(t)
	renewed, revoked, left := mustAdmit(t, c, "1"), mustAdmit(t, c, "2"), mustAdmit(t, c, "3")
	r, err := c.client("t-host").Leases().Renew(ctx, &masterapi.RenewRequest{LeaseId: renewed.GetLeaseId()})
	if err != nil || !r.GetExpiry().AsTime().After(renewed.GetExpiry().AsTime()) {
		t.Fatalf("renew: %v, %v", r, err)
	}
	if _, reason := h.keys.VerifyViewer(r.GetViewerToken(), time.Now()); reason != 0 {
		t.Errorf("renewed token: %s", reason)
	}
	if _, err := op.Leases().Revoke(ctx, &masterapi.RevokeRequest{LeaseId: revoked.GetLeaseId(), Comment: "test"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "revoked lease refused", func() bool {
		_, reason := h.keys.VerifyViewer(revoked.GetViewerToken(), time.Now())
		return reason == masterapi.Reason_REASON_LEASE_REVOKED
	})
	eventually(t, "expiry", h.is(func() bool { return h.ended[left.GetSessionId()] == masterapi.Reason_REASON_LEASE_EXPIRED }))
	if _, err := gw.Leases().Renew(ctx, &masterapi.RenewRequest{LeaseId: left.GetLeaseId()}); !isReason(err, masterapi.Reason_REASON_LEASE_ENDED) {
		t.Errorf("renew after the end: %v", err)
	}
}

func mustAdmit(t *testing.T, c *cluster, id string) *masterapi.Grant {
	t.Helper()
	g, err := c.client("t-gateway").Sessions().Admit(testContext(t), request(id))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestRelayDrain proves that draining a relay moves its viewers to another one before the old lease ends, and that it is drained when empty.
func TestRelayDrain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h, r1 := c.host("h1", 5, nil), c.activeRelay("r1")
	op, ctx, events := c.client("t-operator"), testContext(t), watch(t, c)
	grant := mustAdmit(t, c, "1")
	h.progress(grant.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE)
	c.activeRelay("r2")
	if _, err := op.Fleet().SetRelayState(ctx, &masterapi.SetRelayStateRequest{RelayId: "r1", State: masterapi.RelayState_RELAY_STATE_DRAINING, Reason: "upgrade"}); err != nil {
		t.Fatal(err)
	}
	moved := events.expect(t, masterapi.SessionEvent_KIND_MOVED)
	if moved.GetGrant().GetCandidates()[1].GetRelayId() != "r2" || moved.GetViewerId() != grant.GetViewerId() || moved.GetSessionId() != grant.GetSessionId() {
		t.Errorf("moved %v", moved)
	}
	eventually(t, "relay told", r1.is(func() bool { return r1.drained != "" }))
	h.with(func() {
		if p := h.prepared[moved.GetLeaseId()]; p.GetReplacesLease() != grant.GetLeaseId() {
			t.Errorf("the host was not told what the lease replaces: %v", p)
		}
	})
	h.progress(moved.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE)
	eventually(t, "old lease ended", h.is(func() bool { return h.endLease[grant.GetLeaseId()] == masterapi.Reason_REASON_MOVED }))
	eventually(t, "drained", func() bool {
		r, err := op.Fleet().GetRelay(ctx, &masterapi.GetRelayRequest{RelayId: "r1"})
		return err == nil && r.GetState() == masterapi.RelayState_RELAY_STATE_DRAINED
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ended := h.ended[grant.GetSessionId()]; ended {
		t.Error("the session ended")
	}
}

// TestRelayLost proves that viewers of a relay whose link is gone are moved without being asked for, and that a new process of it is on probation.
func TestRelayLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h, r1 := c.host("h1", 5, nil), c.activeRelay("r1")
	events := watch(t, c)
	grant := mustAdmit(t, c, "1")
	h.progress(grant.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE)
	c.activeRelay("r2")
	c.settle()
	r1.stop()
	if moved := events.expect(t, masterapi.SessionEvent_KIND_MOVED); moved.GetReason() != masterapi.Reason_REASON_RELAY_LOST {
		t.Errorf("moved for %s", moved.GetReason())
	}
	r1.hello.BootId = "boot2"
	r1.start(c)
	eventually(t, "the relay is on probation", r1.is(func() bool { return r1.word == "probation" }))
}

// TestHostRestart proves that sessions a new host process does not know are ended, and that a session the master does not know is ended at the host.
func TestHostRestart(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h := c.host("h1", 5, nil)
	events := watch(t, c)
	grant := mustAdmit(t, c, "1")
	h.progress(grant.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE)
	events.expect(t, masterapi.SessionEvent_KIND_PATH)
	h.stop()
	h.hello.BootId, h.hello.Sessions = "boot2", []*masterapi.HostSession{{SessionId: "stranger"}}
	h.start(c)
	if e := events.expect(t, masterapi.SessionEvent_KIND_ENDED); e.GetReason() != masterapi.Reason_REASON_HOST_RESTARTED {
		t.Errorf("ended for %s", e.GetReason())
	}
	eventually(t, "stranger ended", h.is(func() bool { return h.ended["stranger"] != 0 }))
}

// TestForcedRelay proves that a forced relay leaves no direct candidate and that a rejection by the relay is a clean refusal.
func TestForcedRelay(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h := c.host("h1", 5, nil)
	c.activeRelay("r1")
	gw, ctx := c.client("t-gateway"), testContext(t)
	force := request("1")
	force.ForceRelay = true
	g, err := gw.Sessions().Admit(ctx, force)
	if err != nil || len(g.GetCandidates()) != 1 || g.GetCandidates()[0].GetKind() != masterapi.CandidateKind_CANDIDATE_KIND_RELAY {
		t.Fatalf("%v, %v", g, err)
	}
	h.with(func() { h.reject = masterapi.Reason_REASON_RELAY_FULL })
	c.settle()
	force.RequestId = "2"
	if _, err := gw.Sessions().Admit(ctx, force); !isReason(err, masterapi.Reason_REASON_HOST_PREPARE_FAILED) {
		t.Errorf("rejected relay: %v", err)
	}
	g, err = gw.Sessions().Admit(ctx, request("3"))
	if err != nil || len(g.GetCandidates()) != 1 || g.GetRelayMissing() != masterapi.Reason_REASON_RELAY_FULL {
		t.Errorf("direct instead: %v, %v", g, err)
	}
}

// TestNoKEK proves that without a key-encryption key the server is not ready and says why, and never makes a key of its own.
func TestNoKEK(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, func(c *Config) { c.KEK = nil })
	eventually(t, "leading", func() bool { return c.servers[0].leader.Load() != nil })
	if err := c.servers[0].Ready(); !isReason(err, masterapi.Reason_REASON_NO_SIGNING_KEY) {
		t.Errorf("ready: %v", err)
	}
}

// TestProbationShare proves that a relay on probation gets its share of new sessions and no more while a proven one is there.
func TestProbationShare(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil) // with a share of 0.1
	c.leader()
	c.host("h1", 1000, nil)
	c.activeRelay("r1")
	c.relay("r2")
	c.settle()
	gw, ctx := c.client("t-gateway"), testContext(t)
	const sessions = 500
	onTrial := 0
	for i := range sessions {
		r, err := gw.Sessions().Admit(ctx, request(fmt.Sprint("q", i)))
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(r.GetCandidates(), func(c *masterapi.Candidate) bool { return c.GetRelayId() == "r2" }) {
			onTrial++
		}
		if _, err := gw.Leases().Release(ctx, &masterapi.ReleaseRequest{LeaseId: r.GetLeaseId()}); err != nil {
			t.Fatal(err)
		}
	}
	if onTrial < sessions/50 || onTrial > sessions/5 { // 50 are expected; five standard deviations are 34
		t.Errorf("the relay on probation got %d of %d sessions", onTrial, sessions)
	}
}
