package master

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/master/masterapi"
)

// A ban ends what the banned have at once: the session of one who controls it, and of one who watches only that. Others are left alone.
func TestBanEndsLeases(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.host("h1", 2, nil)
	gw, op, ctx := c.client("t-gateway"), c.client("t-operator"), t.Context()
	admit := func(request, login, address string) *masterapi.Grant {
		t.Helper()
		g, err := gw.Sessions().Admit(ctx, &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: request, Login: login, ViewerAddress: address, DirectOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	ada, bob := admit("r1", "ada", "192.0.2.1"), admit("r2", "bob", "198.51.100.7")
	eve, err := gw.Sessions().AddViewer(ctx, &masterapi.AddViewerRequest{
		ViewerKey: viewerKey, RequestId: "r3", SessionId: ada.GetSessionId(), Login: "eve", Role: masterapi.ViewerRole_VIEWER_ROLE_WATCH, DirectOnly: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, c)
	ban := func(kind masterapi.Ban_Kind, subject string) {
		t.Helper()
		if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: kind, Subject: subject, Reason: "noise"}); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	ban(masterapi.Ban_KIND_LOGIN, "eve")
	if e := w.expect(t, masterapi.SessionEvent_KIND_VIEWER_REMOVED); e.GetViewerId() != eve.GetViewerId() || e.GetReason() != masterapi.Reason_REASON_BANNED {
		t.Errorf("removed %v", e)
	}
	ban(masterapi.Ban_KIND_ADDRESS, "198.51.100.0/24")
	if e := w.expect(t, masterapi.SessionEvent_KIND_ENDED); e.GetSessionId() != bob.GetSessionId() || e.GetReason() != masterapi.Reason_REASON_BANNED {
		t.Errorf("ended %v", e)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("two bans took %s", took)
	}
	s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: ada.GetSessionId()})
	if err != nil || len(s.GetLeases()) != 1 || s.GetLeases()[0].GetLeaseId() != ada.GetLeaseId() {
		t.Errorf("the others' session %v, %v", s, err)
	}
}

// A host that has another pool takes its sessions along, and gateways hear of it: they know whose people may use it.
func TestSessionsFollowTheirHostsPool(t *testing.T) {
	c := startCluster(t, 1, nil)
	h := c.host("h1", 1, nil)
	gw, ctx := c.client("t-gateway"), t.Context()
	g, err := gw.Sessions().Admit(ctx, &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "r1", Login: "ada", DirectOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, c)
	hello := proto.Clone(h.hello).(*masterapi.HostHello)
	hello.Pool = "secret"
	if err := h.link.Send(&masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	if e := w.expect(t, masterapi.SessionEvent_KIND_POOL); e.GetSessionId() != g.GetSessionId() || e.GetPool() != "secret" {
		t.Errorf("event %v", e)
	}
	if s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: g.GetSessionId()}); err != nil || s.GetPool() != "secret" {
		t.Errorf("session %v, %v", s, err)
	}
}
