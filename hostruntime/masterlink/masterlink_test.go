package masterlink

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// A grant of a real master names the host and a circuit at a real relay, and nothing is left of it after the end.
func TestPrepareAndEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime, "r1")
	g := f.admit("1", false)
	if cs := g.GetCandidates(); len(cs) != 2 || cs[0].GetKind() != masterapi.CandidateKind_CANDIDATE_KIND_DIRECT || cs[1].GetRelayId() != "r1" {
		t.Errorf("candidates %v", cs)
	}
	if f.circuits("r1") != 1 || f.link.legs.all()[0].circuit.Load() == nil {
		t.Error("no circuit")
	}
	f.holds(g.GetLeaseId())
	f.shown(g.GetLeaseId())
	gw := f.client("gateway")
	f.until("the master knows that pictures were shown", func() bool {
		s, err := gw.Sessions().GetSession(t.Context(), &masterapi.GetSessionRequest{SessionId: g.GetSessionId()})
		return err == nil && s.GetState() == masterapi.SessionState_SESSION_STATE_ACTIVE
	})
	if _, err := gw.Sessions().EndSession(t.Context(), &masterapi.EndSessionRequest{SessionId: g.GetSessionId()}); err != nil {
		t.Fatal(err)
	}
	f.until("the host is told", f.host.is(func() bool { return f.host.ended[g.GetSessionId()] == streamwire.CodeEnded }))
	if f.circuits("r1") != 1 {
		t.Error("the circuit went before the goodbye")
	}
	f.link.SessionEnded(g.GetSessionId(), &session.EndedError{Code: streamwire.CodeEnded})
	f.until("the circuit is released", func() bool { return f.circuits("r1") == 0 })
	f.holds()
}

// The host ends a session: the master hears why.
func TestSessionEndsByItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	for code, want := range map[streamwire.Code]masterapi.Reason{
		streamwire.CodeGrace: masterapi.Reason_REASON_VIEWER_LEFT, streamwire.CodeHost: masterapi.Reason_REASON_HOST_FAILED,
	} {
		g := f.admit(want.Slug(), false)
		f.link.SessionEnded(g.GetSessionId(), &session.EndedError{Code: code, Text: "because"})
		f.until(want.Slug(), func() bool {
			s, err := f.client("gateway").Sessions().GetSession(t.Context(), &masterapi.GetSessionRequest{SessionId: g.GetSessionId()})
			return err == nil && s.GetEndReason() == want
		})
	}
	f.holds()
}

// Leases are renewed at host and relay for as long as the session runs, and end at the master when the link is gone.
func TestRenews(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4*time.Second, "r1")
	g := f.admit("1", true)
	f.until("renewals", f.host.is(func() bool { return f.host.renewals[g.GetLeaseId()] > 4 }))
	if f.circuits("r1") != 1 {
		t.Error("the circuit has ended")
	}
	f.stop()
	f.until("the lease ends at the master", func() bool {
		l, err := f.client("gateway").Leases().Get(t.Context(), &masterapi.GetLeaseRequest{LeaseId: g.GetLeaseId()})
		return err == nil && l.GetState() == masterapi.LeaseState_LEASE_STATE_EXPIRED
	})
}

// A lease whose session could not be prepared is not kept, and the person may try again.
func TestFailedPrepareIsNotKept(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime, "r1")
	f.host.with(func() { f.host.fail = errors.New("no desktop") })
	_, err := f.client("gateway").Sessions().Admit(t.Context(), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "1", Login: "ada"})
	if reason, _ := masterapi.ReasonOf(err); reason != masterapi.Reason_REASON_HOST_PREPARE_FAILED {
		t.Errorf("admitted: %v", err)
	}
	f.holds()
	if f.circuits("r1") != 0 {
		t.Error("a circuit is left")
	}
	f.host.with(func() { f.host.fail = nil })
	f.holds(f.admit("2", false).GetLeaseId())
}

// A slot that is given away while its old session still says goodbye is waited for; one that stays taken is a refusal.
func TestWaitsForTheSlot(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	f.host.with(func() { f.host.fail = hostruntime.ErrFull })
	free := time.AfterFunc(300*time.Millisecond, func() { f.host.with(func() { f.host.fail = nil }) })
	defer free.Stop()
	f.holds(f.admit("1", false).GetLeaseId())
	f.host.with(func() { f.host.fail = hostruntime.ErrFull })
	_, err := f.client("gateway").Sessions().Admit(t.Context(), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "2", Login: "bob"})
	if reason, _ := masterapi.ReasonOf(err); reason != masterapi.Reason_REASON_HOST_PREPARE_FAILED {
		t.Errorf("admitted: %v", err)
	}
}

// A drained relay's viewer gets a lease for another one; the old circuit ends only after the new one has shown a picture.
func TestMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime, "r1", "r2")
	g := f.admit("1", true)
	f.shown(g.GetLeaseId())
	from := g.GetCandidates()[0].GetRelayId()
	to := map[string]string{"r1": "r2", "r2": "r1"}[from]
	op := f.client("operator")
	f.until("the relay drains", func() bool {
		_, err := op.Fleet().SetRelayState(t.Context(), &masterapi.SetRelayStateRequest{RelayId: from, State: masterapi.RelayState_RELAY_STATE_DRAINING})
		return err == nil
	})
	f.until("a second lease", func() bool { return len(f.link.held()) == 2 })
	f.until("both circuits", func() bool { return f.circuits(from) == 1 && f.circuits(to) == 1 })
	var next string
	for _, id := range f.link.held() {
		if id != g.GetLeaseId() {
			next = id
		}
	}
	f.until("the host lets the viewer in by the new lease", f.host.is(func() bool { return f.host.claims[next].Lease == next }))
	f.shown(next)
	f.until("the old circuit is gone", func() bool { return f.circuits(from) == 0 })
	f.holds(next)
	if f.circuits(to) != 1 {
		t.Error("the new circuit is gone too")
	}
	f.until("the host is told that the old lease was left", f.host.is(func() bool { return f.host.over[g.GetLeaseId()] == streamwire.CodeMoved }))
	f.host.with(func() {
		if len(f.host.over) != 1 || len(f.host.ended) > 0 {
			t.Errorf("the viewer was sent away: %v %v", f.host.over, f.host.ended)
		}
	})
}

// A circuit whose lease was left behind ends with its connection, even if the master's word for it is lost.
func TestOldCircuitEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime, "r1")
	g := f.admit("1", true)
	var c lease.ViewerClaims
	f.host.with(func() { c = f.host.claims[g.GetLeaseId()] })
	f.link.ViewerLeft(c)
	if f.circuits("r1") != 1 {
		t.Error("a viewer that may come back has lost its circuit")
	}
	f.link.mu.Lock()
	delete(f.link.leases, g.GetLeaseId())
	f.link.mu.Unlock()
	f.link.ViewerLeft(c)
	f.until("the circuit is released", func() bool { return f.circuits("r1") == 0 })
}

// A revoked lease sends its viewer away; the session of the others goes on.
func TestRevokedLease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime, "r1")
	g := f.admit("1", false)
	watcher, err := f.client("gateway").Sessions().AddViewer(t.Context(), &masterapi.AddViewerRequest{
		ViewerKey: viewerKey, RequestId: "2", SessionId: g.GetSessionId(), Login: "bob", ViewerId: "v2", Role: masterapi.ViewerRole_VIEWER_ROLE_WATCH, ViewerAddress: "127.0.0.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.client("operator").Leases().Revoke(t.Context(), &masterapi.RevokeRequest{LeaseId: watcher.GetLeaseId()}); err != nil {
		t.Fatal(err)
	}
	f.until("the watcher is sent away", f.host.is(func() bool { return f.host.over[watcher.GetLeaseId()] == streamwire.CodeLease }))
	f.until("its token is refused", func() bool { _, err := f.link.Verify(watcher.GetViewerToken(), time.Now()); return err != nil })
	f.until("its circuit ends", func() bool { return f.circuits("r1") == 1 })
	f.holds(g.GetLeaseId())
	f.host.with(func() {
		if len(f.host.ended) > 0 || len(f.host.over) != 1 {
			t.Errorf("others were sent away: %v %v", f.host.over, f.host.ended)
		}
	})
}

// What the master does not know any more ends at the next renewal.
func TestRefusedRenewalEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	f.link.hold(prepareOf("stranger", "s", "v9", time.Now().Add(time.Minute)))
	f.until("the viewer is sent away", f.host.is(func() bool { return f.host.over["stranger"] == streamwire.CodeLease }))
	f.holds()
}

// A host that was not linked when leases of a session that goes on were ended ends them when it is back.
func TestEndedWhileUnlinked(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	g := f.admit("1", false)
	gw := f.client("gateway")
	watcher, err := gw.Sessions().AddViewer(t.Context(), &masterapi.AddViewerRequest{
		ViewerKey: viewerKey, RequestId: "2", SessionId: g.GetSessionId(), Login: "bob", ViewerId: "v2", Role: masterapi.ViewerRole_VIEWER_ROLE_WATCH,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.stop()
	if _, err := gw.Leases().Release(t.Context(), &masterapi.ReleaseRequest{LeaseId: watcher.GetLeaseId()}); err != nil {
		t.Fatal(err)
	}
	run(t, f.link.Run)
	f.until("the watcher is sent away", f.host.is(func() bool { _, over := f.host.over[watcher.GetLeaseId()]; return over }))
	f.holds(g.GetLeaseId())
	f.host.with(func() {
		if len(f.host.ended) > 0 || len(f.host.over) != 1 {
			t.Errorf("others were sent away: %v %v", f.host.over, f.host.ended)
		}
	})
}

// The host drains itself, and an operator drains and activates it.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	op := f.client("operator")
	state := func(want masterapi.HostStateWord) {
		t.Helper()
		f.until(want.String(), func() bool {
			h, err := op.Fleet().GetHost(t.Context(), &masterapi.GetHostRequest{HostId: "h1"})
			return err == nil && h.GetState() == want
		})
	}
	set := func(to masterapi.HostStateWord) {
		t.Helper()
		if _, err := op.Fleet().SetHostState(t.Context(), &masterapi.SetHostStateRequest{HostId: "h1", State: to, Reason: "new kernel"}); err != nil {
			t.Fatal(err)
		}
	}
	f.admit("1", false)
	set(masterapi.HostStateWord_HOST_STATE_DRAINING)
	f.until("viewers told", f.host.is(func() bool {
		return f.host.drained == "This host takes no new sessions; yours goes on. Reason: new kernel"
	}))
	set(masterapi.HostStateWord_HOST_STATE_ACTIVE)
	f.until("active again", f.host.is(func() bool { return f.host.drained == "" }))
	f.link.Drain("maintenance")
	state(masterapi.HostStateWord_HOST_STATE_DRAINING)
	if !f.link.hello().GetDraining() {
		t.Error("a new link would not say that it drains")
	}
}

// The master hears when something else works on the host, over the link that stands.
func TestSayChanges(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	op := f.client("operator")
	for _, encoder := range []string{"encode-a/m", "encode-b/m"} {
		f.host.capabilities.Store(&masterapi.HostCapabilities{EncoderPlugin: encoder})
		f.until("the master knows "+encoder, func() bool {
			h, err := op.Fleet().GetHost(t.Context(), &masterapi.GetHostRequest{HostId: "h1"})
			return err == nil && h.GetCapabilities().GetEncoderPlugin() == encoder
		})
	}
	if !f.link.Linked() {
		t.Error("the link did not stand")
	}
}

// prepareOf is a command of a master that is not there.
func prepareOf(leaseID, sessionID, viewer string, expiry time.Time) *masterapi.Prepare {
	return &masterapi.Prepare{LeaseId: leaseID, SessionId: sessionID, ViewerId: viewer, Expiry: timestamppb.New(expiry)}
}

// alone is a link without a master, on a clock of the test's.
func alone(t *testing.T) (*Link, *fakeHost, *atomic.Int64) {
	t.Helper()
	client, err := masterclient.New(masterclient.Config{Addresses: []string{"127.0.0.1:1"}, TLS: &tls.Config{}, RetryFor: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var ahead atomic.Int64
	l, h := newLink(t, client, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	l.ctx = t.Context()
	t.Cleanup(func() { _ = l.tasks.Wait() }) // tasks return nil
	return l, h, &ahead
}

// Without a master a lease still ends in its time, after the skew that clocks may have.
func TestLeaseExpiresAlone(t *testing.T) {
	l, h, ahead := alone(t)
	l.hold(prepareOf("l1", "s1", "v1", time.Now().Add(lease.Lifetime)))
	ahead.Store(int64(lease.Lifetime + lease.Skew - time.Second))
	l.renewDue()
	if len(l.held()) != 1 {
		t.Error("ended before its time")
	}
	ahead.Store(int64(lease.Lifetime + lease.Skew + time.Second))
	l.renewDue()
	if len(l.held()) != 0 || h.over["l1"] != streamwire.CodeLease {
		t.Errorf("held %v, over %v", l.held(), h.over)
	}
}

// A host that was not linked when things happened catches up with the welcome.
func TestWelcomeCatchesUp(t *testing.T) {
	l, h, _ := alone(t)
	welcome := func(state string, revoked ...string) {
		l.command(&masterapi.HostCommand{Command: &masterapi.HostCommand_Welcome{Welcome: &masterapi.Welcome{
			State: state, Revocations: &masterapi.Revocations{LeaseIds: revoked},
		}}})
	}
	l.hold(prepareOf("l1", "s1", "v1", time.Now().Add(lease.Lifetime)))
	welcome("active", "another")
	if len(l.held()) != 1 || h.drained != "" {
		t.Fatal("something happened")
	}
	welcome("draining", "l1")
	if len(l.held()) != 0 || h.over["l1"] != streamwire.CodeLease {
		t.Error("a revoked lease goes on")
	}
	if h.drained == "" {
		t.Error("not drained")
	}
	welcome("active")
	if h.drained != "" {
		t.Error("still drained")
	}
	l.Drain("by itself")
	welcome("active")
	if h.drained == "" {
		t.Error("the master's older word won over the host's own wish")
	}
}

// The end of a session that is still being prepared leaves nothing behind.
func TestEndDuringPrepare(t *testing.T) {
	for name, end := range map[string]*masterapi.HostCommand{
		"session": {Command: &masterapi.HostCommand_End{End: &masterapi.EndHostSession{SessionId: "s1"}}},
		"lease":   {Command: &masterapi.HostCommand_EndLease{EndLease: &masterapi.EndLease{LeaseId: "l1", SessionId: "s1", ViewerId: "v1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			l, h, _ := alone(t)
			reached, goOn := make(chan struct{}), make(chan struct{})
			p := prepareOf("l1", "s1", "v1", time.Now().Add(lease.Lifetime))
			signed(t, l, p)
			h.prepare = func() { close(reached); <-goOn }
			l.command(&masterapi.HostCommand{Command: &masterapi.HostCommand_Prepare{Prepare: p}})
			<-reached
			l.command(end)
			delete(h.ended, "s1") // the end that came too early
			close(goOn)
			if err := l.tasks.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(l.held()) != 0 || len(h.sessions) != 0 {
				t.Errorf("held %v, sessions %v", l.held(), h.sessions)
			}
		})
	}
}
