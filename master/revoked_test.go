package master

import (
	"fmt"
	"testing"
	"time"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// certified is a client that shows a certificate, whose serial number is returned.
func (c *cluster) certified(role identity.Role, name string) (*masterclient.Client, string) {
	c.t.Helper()
	source := certificate(c.t, role, name)
	config := source.Client(identity.RoleMaster)
	shown, err := config.GetClientCertificate(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := masterclient.New(masterclient.Config{Addresses: c.addresses(), TLS: config, RetryFor: 10 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client, shown.Leaf.SerialNumber.Text(16)
}

// TestRevocationBites proves that a revoked certificate or name ends what is running within two seconds and opens nothing anew, at any server, for hosts,
// relays and gateways, and that only operators revoke.
func TestRevocationBites(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.leader()
	op, ctx := c.client("t-operator"), testContext(t)
	host, hostSerial := c.certified(identity.RoleHost, "h7")
	job, _ := c.certified(identity.RoleHost, "*")
	relay, _ := c.certified(identity.RoleRelay, "r7")
	gateway, gatewaySerial := c.certified(identity.RoleGateway, "g7")
	hello := func(id string) *masterapi.HostHello {
		return &masterapi.HostHello{HostId: id, BootId: "b", Identity: make([]byte, 32), Slots: 1}
	}
	linked := map[string]func() bool{}
	start := func(name string, run func() error, is func() bool) {
		go func() { _ = run() }() // ends with the test's context
		linked[name] = is
		eventually(t, name+" linked", is)
	}
	h := host.NewHostLink(func() *masterapi.HostHello { return hello("h7") }, func(*masterapi.HostCommand) {})
	start("host/h7", func() error { return h.Run(ctx) }, h.Linked)
	j := job.NewHostLink(func() *masterapi.HostHello { return hello("h8") }, func(*masterapi.HostCommand) {})
	start("host/h8", func() error { return j.Run(ctx) }, j.Linked)
	r := relay.NewRelayLink(func() *masterapi.RelayHello {
		return &masterapi.RelayHello{RelayId: "r7", BootId: "b", PublicKey: make([]byte, 32), ControlAddress: "198.51.100.7:4000", CapacityCircuits: 1}
	}, func(*masterapi.RelayCommand) {})
	start("relay/r7", func() error { return r.Run(ctx) }, r.Linked)
	watching := make(chan error, 1)
	synced := make(chan struct{})
	go func() {
		stream, err := gateway.Sessions().WatchSessions(masterclient.At(ctx, c.servers[c.leader()].cfg.Advertise), &masterapi.WatchSessionsRequest{GatewayId: "g7"})
		if err != nil {
			watching <- err
			return
		}
		for stream.Receive() {
			if stream.Msg().GetKind() == masterapi.SessionEvent_KIND_SYNC {
				close(synced)
			}
		}
		watching <- stream.Err()
	}()
	<-synced

	for _, kind := range []masterapi.Ban_Kind{masterapi.Ban_KIND_CERTIFICATE, masterapi.Ban_KIND_IDENTITY} {
		subject := map[masterapi.Ban_Kind]string{masterapi.Ban_KIND_CERTIFICATE: hostSerial, masterapi.Ban_KIND_IDENTITY: "operator/ada"}[kind]
		if _, err := gateway.Fleet().PutBan(ctx, &masterapi.Ban{Kind: kind, Subject: subject}); !isReason(err, masterapi.Reason_REASON_PERMISSION_DENIED) {
			t.Errorf("a gateway revokes %s: %v", subject, err)
		}
	}
	const bite = 2 * time.Second
	for subject, name := range map[string]string{hostSerial: "host/h7", "host/h8": "host/h8", "relay/r7": "relay/r7"} {
		kind := masterapi.Ban_KIND_IDENTITY
		if subject == hostSerial {
			kind = masterapi.Ban_KIND_CERTIFICATE
		}
		began := time.Now()
		if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: kind, Subject: subject, Reason: "stolen"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is cut", func() bool { return !linked[name]() })
		took := time.Since(began)
		t.Logf("%s was cut within %s", name, took.Round(time.Millisecond))
		if took > bite {
			t.Errorf("%s was cut after %s", name, took)
		}
	}
	if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: masterapi.Ban_KIND_CERTIFICATE, Subject: gatewaySerial, Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-watching:
		if err == nil {
			t.Error("the gateway's watch ended without a reason")
		}
	case <-time.After(bite):
		t.Error("the gateway goes on watching")
	}
	// No server takes them any more, with the old connections or new ones.
	again, _ := c.certified(identity.RoleGateway, "g7") // a new certificate of the same name is another one
	if _, err := again.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{}); err != nil {
		t.Errorf("the gateway's new certificate: %v", err)
	}
	for _, s := range c.servers {
		at := masterclient.At(ctx, s.cfg.Advertise)
		eventually(t, "the server has the revocation", func() bool {
			_, err := gateway.Fleet().ListHosts(at, &masterapi.ListHostsRequest{})
			return isReason(err, masterapi.Reason_REASON_UNAUTHENTICATED)
		})
	}
	if h.Linked() || j.Linked() || r.Linked() { // their links try again all the time
		t.Error("a revoked machine linked again")
	}
	// What is taken back holds again.
	if _, err := op.Fleet().RemoveBan(ctx, &masterapi.RemoveBanRequest{Kind: masterapi.Ban_KIND_CERTIFICATE, Subject: gatewaySerial}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway is back", func() bool {
		_, err := gateway.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
		return err == nil
	})
}

// TestRevokedMasterSpeaksNoRaft proves that a follower whose certificate is revoked hears nothing more, and may not come back.
func TestRevokedMasterSpeaksNoRaft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	lead := c.leader()
	out := (lead + 1) % 3
	op, ctx := c.client("t-operator"), testContext(t)
	if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: masterapi.Ban_KIND_IDENTITY, Subject: "master/" + c.servers[out].cfg.ID, Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked server has no leader", func() bool { return c.servers[out].Ready() != nil })
	if _, err := op.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{}); err != nil {
		t.Errorf("the others: %v", err)
	}
}

// TestRevokedHostLosesWhatItRuns proves that the sessions of a revoked host end, linked or not, by its own name or by that of what linked it, and that it
// gets no new ones.
func TestRevokedHostLosesWhatItRuns(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	op, gw, ctx := c.client("t-operator"), c.client("t-gateway"), testContext(t)
	for n, subject := range []string{"host/h0", "host/*"} {
		h := c.host(fmt.Sprint("h", n), 5, nil)
		running, err := gw.Sessions().Admit(ctx, request(fmt.Sprint(n)))
		if err != nil {
			t.Fatal(err)
		}
		h.stop()
		if _, err := op.Fleet().PutBan(ctx, &masterapi.Ban{Kind: masterapi.Ban_KIND_IDENTITY, Subject: subject, Reason: "stolen"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its session ends", func() bool {
			s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: running.GetSessionId()})
			return err == nil && s.GetEndReason() == masterapi.Reason_REASON_HOST_DRAINED
		})
	}
}
