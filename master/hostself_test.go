package master

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// hostMessage is what an operator sees of a host.
func (c *cluster) hostMessage(id string) *masterapi.Host {
	c.t.Helper()
	h, err := c.client("t-operator").Fleet().GetHost(testContext(c.t), &masterapi.GetHostRequest{HostId: id})
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// TestHostChangesItself proves that a hello on a standing link changes what the master knows, that a host which says that nothing works
// gets no session while its running one goes on, and that it gets some again.
func TestHostChangesItself(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	h, gw, ctx := c.host("h1", 5, nil), c.client("t-gateway"), testContext(t)
	running, err := gw.Sessions().Admit(ctx, request("1"))
	if err != nil {
		t.Fatal(err)
	}
	says := func(encoder, unusable string) {
		t.Helper()
		h.hello.Capabilities = &masterapi.HostCapabilities{EncoderPlugin: encoder}
		if unusable != "" {
			h.hello.Capabilities.Attributes = map[string]string{masterapi.AttributeUnusable: unusable}
		}
		h.hello.Sessions = []*masterapi.HostSession{{SessionId: running.GetSessionId(), LeaseIds: []string{running.GetLeaseId()}}}
		h.send(&masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: h.hello}})
		eventually(t, "known", func() bool {
			m := c.hostMessage("h1")
			return m.GetCapabilities().GetEncoderPlugin() == encoder && m.Why() != "" && (unusable == "" || m.Why() == unusable) &&
				(m.GetHealth().GetStatus() == "critical") == (unusable != "")
		})
	}
	says("encode-a/m", "")
	says("", "no encoder here")
	if err := second(gw.Sessions().Admit(ctx, request("2"))); !isReason(err, masterapi.Reason_REASON_NO_FREE_HOST) {
		t.Errorf("an unusable host took a session: %v", err)
	}
	if s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: running.GetSessionId()}); err != nil || s.GetEndReason() != masterapi.Reason_REASON_UNSPECIFIED {
		t.Errorf("the running session ended: %v, %v", s, err)
	}
	h.stop()
	h.start(c)
	if m := c.hostMessage("h1"); m.GetHealth().GetStatus() != "critical" {
		t.Error("a new link made it usable:", m.GetHealth())
	}
	says("encode-b/m", "")
	if err := second(gw.Sessions().Admit(ctx, request("3"))); err != nil {
		t.Error(err)
	}
	other := proto.Clone(h.hello).(*masterapi.HostHello)
	other.HostId = "h2"
	h.send(&masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: other}})
	h.progress(running.GetLeaseId(), masterapi.LeaseState_LEASE_STATE_ACTIVE) // handled after it
	eventually(t, "progress", func() bool {
		s, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: running.GetSessionId()})
		return err == nil && s.GetState() == masterapi.SessionState_SESSION_STATE_ACTIVE
	})
	if _, err := c.client("t-operator").Fleet().GetHost(ctx, &masterapi.GetHostRequest{HostId: "h2"}); !isReason(err, masterapi.Reason_REASON_HOST_UNKNOWN) {
		t.Errorf("a link became another host: %v", err)
	}
}

// TestInstancesOfOneJob proves that an instance of a job cannot take the place of another while that one is linked, that the same one
// can link again, and that the name is free when its holder has gone.
func TestInstancesOfOneJob(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	hello := func() *masterapi.HostHello {
		return &masterapi.HostHello{HostId: "h1", BootId: "b", Identity: make([]byte, 32), Slots: 1}
	}
	run := func(token string) (stop func()) {
		t.Helper()
		link := c.client(token).NewHostLink(hello, func(*masterapi.HostCommand) {})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = link.Run(ctx) }()
		stop = sync.OnceFunc(func() { cancel(); <-done })
		t.Cleanup(stop)
		eventually(t, token+" linked", link.Linked)
		return stop
	}
	stop := run("t-alloc1")
	stranger := c.client("t-alloc2").NewHostLink(hello, func(*masterapi.HostCommand) {
		t.Error("another instance of the job was welcomed in the place of a linked host")
	})
	runFor(t, stranger.Run, 300*time.Millisecond)
	if !c.hostMessage("h1").GetHealth().GetLinked() {
		t.Error("the stranger cut the link")
	}
	run("t-alloc1") // replaces its own link, as after a network that went away unheard
	stop()
	run("t-host") // an issuer that does not tell instances apart
}

// TestInstanceIsOneHost proves that an instance of a job, whose names it may all use, is one host at a time: it cannot gather the sessions of its pool by
// being many, each with the one slot that the rules allow.
func TestInstanceIsOneHost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	link := func(token, id string) *masterclient.HostLink {
		return c.client(token).NewHostLink(func() *masterapi.HostHello {
			return &masterapi.HostHello{HostId: id, BootId: "b", Identity: make([]byte, 32), Slots: 1}
		}, func(*masterapi.HostCommand) {})
	}
	run := func(l *masterclient.HostLink) (stop func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		stop = sync.OnceFunc(func() { cancel(); <-done })
		t.Cleanup(stop)
		eventually(t, "linked", l.Linked)
		return stop
	}
	stop := run(link("t-alloc1", "h1"))
	second := link("t-alloc1", "h2")
	runFor(t, second.Run, 300*time.Millisecond)
	hosts, err := c.client("t-operator").Fleet().ListHosts(testContext(t), &masterapi.ListHostsRequest{})
	if err != nil || len(hosts.GetHosts()) != 1 || hosts.GetHosts()[0].GetHostId() != "h1" {
		t.Errorf("an instance that is h1 became h2 too: %v, %v", hosts, err)
	}
	run(link("t-alloc2", "h3")) // another instance is another host
	stop()
	run(link("t-alloc1", "h2")) // and the first may be another one when it is h1 no more
}

// TestNameIsFreeAgain proves that another instance of a job becomes the host when the one before has gone.
func TestNameIsFreeAgain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	for _, token := range []string{"t-alloc1", "t-alloc2"} {
		link := c.client(token).NewHostLink(func() *masterapi.HostHello {
			return &masterapi.HostHello{HostId: "h1", BootId: token, Identity: make([]byte, 32), Slots: 1}
		}, func(*masterapi.HostCommand) {})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = link.Run(ctx) }()
		eventually(t, token+" linked", link.Linked)
		cancel()
		<-done
	}
}

// What a host has said when it leaves arrives: its sessions ended as it says, and are not lost with it.
func TestLastReportsOfAHost(t *testing.T) {
	t.Parallel()
	const slots = 16
	c := startCluster(t, 1, nil)
	c.leader()
	gw, ctx := c.client("t-gateway"), testContext(t)
	h := c.host("h1", slots, nil)
	var sessions []string
	for i := range slots {
		g, err := gw.Sessions().Admit(ctx, request(fmt.Sprint("r", i)))
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, g.GetSessionId())
	}
	for _, id := range sessions {
		h.send(&masterapi.HostReport{Report: &masterapi.HostReport_SessionEnded{SessionEnded: &masterapi.HostSessionEnded{
			SessionId: id, Reason: masterapi.Reason_REASON_HOST_DRAINED,
		}}})
	}
	h.stop()
	for _, id := range sessions {
		var s *masterapi.Session
		eventually(t, "session ended", func() bool { // the master has the report and commits
			var err error
			if s, err = gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: id}); err != nil {
				t.Fatal(err)
			}
			return s.GetEndReason() != masterapi.Reason_REASON_UNSPECIFIED
		})
		if s.GetEndReason() != masterapi.Reason_REASON_HOST_DRAINED {
			t.Errorf("session %s ended by %s", id, s.GetEndReason())
		}
	}
}
