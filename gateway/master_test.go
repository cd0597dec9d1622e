//go:build integration

package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/seal"
)

// startMaster runs a real master of one server and returns clients for a gateway and a host.
func startMaster(t *testing.T) (gatewayClient, hostClient *masterclient.Client) {
	t.Helper()
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Bind, cfg.KEK, cfg.KeyPublishAhead = "m1", "127.0.0.1:0", seal.Ephemeral(), 0
	cfg.OpsAddr = ""
	authority, _, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.HostRules, err = hostrule.Parse([]string{"*=*/4294967295"}); err != nil {
		t.Fatal(err)
	}
	if cfg.Identity, err = authority.Source(identity.Identity{Role: identity.RoleMaster, Name: "m1"}, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	cfg.Authenticator = identity.Tokens{"t-gateway": {Role: identity.RoleGateway, Name: "gateway"},
		"t-host": {Role: identity.RoleHost, Name: "*"}}
	m, err := master.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }() // ends with cancel
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("master: %v", err)
		}
	})
	<-m.Listening()
	eventually(t, "the master is ready", func() bool { return m.Ready() == nil })
	client := func(token string) *masterclient.Client {
		c, err := masterclient.New(masterclient.Config{Addresses: []string{m.Address()}, TLS: authority.Trust().Client(identity.RoleMaster), Token: func() (string, error) { return token, nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	return client("t-gateway"), client("t-host")
}

// linkHost joins a host that prepares whatever it is asked to, and ends sessions by the returned function.
func linkHost(t *testing.T, c *masterclient.Client) (end func(session string, reason masterapi.Reason)) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var link *masterclient.HostLink
	link = c.NewHostLink(func() *masterapi.HostHello {
		return &masterapi.HostHello{HostId: "host-1", Pool: "gnome", BootId: "b1", Identity: public, Slots: 2, DirectAddresses: []string{"127.0.0.1:4433"},
			Capabilities: &masterapi.HostCapabilities{Compositor: "gnome", EncoderPlugin: "software"}}
	}, func(command *masterapi.HostCommand) {
		p := command.GetPrepare()
		if p == nil {
			return
		}
		expiry := time.Now().Add(time.Hour)
		hashes := [][]byte{make([]byte, 32)}
		err := link.Send(&masterapi.HostReport{Report: &masterapi.HostReport_Prepared{Prepared: &masterapi.Prepared{
			LeaseId: p.GetLeaseId(), SessionId: p.GetSessionId(), CertificateSha256: hashes, CertificateExpiry: timestamppb.New(expiry),
			Candidates: []*masterapi.Candidate{{Kind: masterapi.CandidateKind_CANDIDATE_KIND_DIRECT, Address: "127.0.0.1:4433"}},
			Signature:  ed25519.Sign(private, signalapi.CertificateStatement(p.GetSessionId(), expiry, hashes)),
		}}})
		if err != nil {
			t.Errorf("answer prepare: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- link.Run(ctx) }() // ends with cancel
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("host link: %v", err)
		}
	})
	eventually(t, "the host is linked", link.Linked)
	return func(session string, reason masterapi.Reason) {
		if err := link.Send(&masterapi.HostReport{Report: &masterapi.HostReport_SessionEnded{
			SessionEnded: &masterapi.HostSessionEnded{SessionId: session, Reason: reason}}}); err != nil {
			t.Errorf("report the end: %v", err)
		}
	}
}

// With a real master: from the sign-in to a grant whose host signature the browser's rule accepts, once per request; renewal, bans,
// the admin's lists, the end of a session and the loss of a host, all through the real protocol.
func TestRealMaster(t *testing.T) {
	gatewayClient, hostClient := startMaster(t)
	end := linkHost(t, hostClient)
	cfg := testConfig(t, startFleet(t))
	cfg.Master = gatewayClient
	s := runSite(t, nil, cfg)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	eventually(t, "the desktop is offered", func() bool {
		list := ok[[]signalapi.Desktop](ada, "GET", signalapi.PathDesktops, nil)
		return len(list) == 1 && list[0].Pool == "gnome" && list[0].Free == 2 && list[0].Reason == ""
	})
	ws := ada.signal()
	grant := ws.connect(request1)
	statement := signalapi.CertificateStatement(grant.Session, grant.Certificate.Expiry, grant.Certificate.Hashes)
	if !ed25519.Verify(grant.Host.Identity, statement, grant.Certificate.Signature) {
		t.Error("the viewer would refuse the host's signature")
	}
	if again := ada.signal().connect(request1); again.Session != grant.Session || again.Viewer != grant.Viewer {
		t.Fatalf("a retry got %+v", again)
	}
	if a := ws.ask(signalapi.TypeRenew, "1", signalapi.SessionRef{Session: grant.Session}); a.Type != signalapi.TypeReply || into[signalapi.Renewed](t, a.Data).Token == "" {
		t.Fatalf("renew: %s", a.Data)
	}
	second := ws.connect(request2)
	ws.refused("no_free_host", signalapi.TypeConnect, "request-0000000000000003", signalapi.Connect{Key: pageKey, Pool: "gnome"})
	ws.refused("pool_unknown", signalapi.TypeConnect, "request-0000000000000004", signalapi.Connect{Key: pageKey, Pool: "atlantis"})
	if list := ok[[]signalapi.Session](admin, "GET", signalapi.PathAdminSessions, nil); len(list) != 2 || list[0].User != "ada" || list[0].Host != "host-1" {
		t.Fatalf("sessions %+v", list)
	}
	if hosts := ok[[]signalapi.HostInfo](admin, "GET", signalapi.PathAdminHosts, nil); len(hosts) != 1 || hosts[0].Used != 2 {
		t.Fatalf("hosts %+v", hosts)
	}
	if keys := ok[[]signalapi.KeyInfo](admin, "GET", signalapi.PathAdminKeys, nil); len(keys) == 0 {
		t.Fatal("no keys")
	}
	ok[[]signalapi.RelayInfo](admin, "GET", signalapi.PathAdminRelays, nil)
	waitEvent := func(kind, session, reason string) {
		t.Helper()
		for {
			e := ws.event()
			if e.Kind == signalapi.EventRenewed {
				continue
			}
			if e.Kind != kind || e.Session != session || e.Reason != reason {
				t.Fatalf("event %+v, want %s of %s for %s", e, kind, session, reason)
			}
			return
		}
	}
	end(second.Session, masterapi.Reason_REASON_HOST_FAILED)
	waitEvent(signalapi.EventOffer, second.Session, "host_failed")
	ok[none](admin, "POST", signalapi.PathAdminSessions+"/"+grant.Session+"/end", signalapi.Cause{Reason: "maintenance"})
	waitEvent(signalapi.EventEnded, grant.Session, "operator_ended")
	ok[signalapi.Ban](admin, "POST", signalapi.PathAdminBans, signalapi.NewBan{User: "ada", Reason: "noise"})
	bans, err := gatewayClient.Fleet().ListBans(t.Context(), &masterapi.ListBansRequest{})
	if err != nil || len(bans.GetBans()) != 1 {
		t.Fatalf("the master's bans: %v, %v", bans, err)
	}
	ada.refused(http.StatusForbidden, signalapi.ReasonBanned, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
}
