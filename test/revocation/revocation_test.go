// Package revocation holds the rule that the end of a right bites within two seconds on what runs, for every kind of right: on real
// gateways, a real master and a real host, at the connection that carries the pictures and at the signaling socket. What has a right
// still goes on.
package revocation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket/wsjson"

	"github.com/wavry/fleet/gateway"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// scene is what runs when a right is taken. The owner has two browsers, at two gateways, each with a desktop; an operator watches the
// first; the other person has nothing to do with them.
type scene struct {
	*fleet
	owner, second, operator, other *person

	desk, secondDesk, watch, otherDesk *connection
}

// What may be lost.
const (
	desk           = "the owner's desktop"
	secondDesk     = "the owner's desktop in the second browser"
	watch          = "the operator's watching"
	otherDesk      = "the other person's desktop"
	ownerSocket    = "the socket of the owner's first browser"
	secondSocket   = "the socket of the owner's second browser"
	operatorSocket = "the operator's socket"
	otherSocket    = "the other person's socket"
)

func (f *fleet) scene() *scene {
	f.t.Helper()
	s := &scene{fleet: f, owner: f.person(0, "owner", store.RoleViewer), operator: f.person(1, "operator", store.RoleOperator), other: f.person(1, "other", store.RoleViewer)}
	s.second = f.again(1, s.owner)
	s.desk = f.connect(s.owner, signalapi.Connect{Pool: "desks"})
	s.secondDesk = f.connect(s.second, signalapi.Connect{Pool: "desks"})
	s.otherDesk = f.connect(s.other, signalapi.Connect{Pool: "desks"})
	s.watch = f.connect(s.operator, signalapi.Connect{Join: s.desk.grant.Session})
	return s
}

// lost are the channels that close when something is lost.
func (s *scene) lost() map[string]<-chan struct{} {
	return map[string]<-chan struct{}{
		desk: s.desk.Done(), secondDesk: s.secondDesk.Done(), watch: s.watch.Done(), otherDesk: s.otherDesk.Done(),
		ownerSocket: s.owner.socket.over, secondSocket: s.second.socket.over, operatorSocket: s.operator.socket.over, otherSocket: s.other.socket.over,
	}
}

func (s *scene) change(p *person, c signalapi.UserChange) {
	s.admin.post(signalapi.PathAdminUser+p.user.ID, c)
}

// cli is another process, which has only the store.
func (s *scene) cli(do func(*gateway.Tools) error) {
	s.t.Helper()
	tools, err := gateway.OpenTools(s.t.Context(), s.cfg)
	if err == nil {
		err = do(tools)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if err := tools.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// leaseOf is the live lease of a connection.
func (s *scene) leaseOf(v *connection) string {
	s.t.Helper()
	x, err := s.client(identity.RoleGateway).Sessions().GetSession(s.t.Context(), &masterapi.GetSessionRequest{SessionId: v.grant.Session})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range x.GetLeases() {
		if l.GetViewerId() == v.grant.Viewer {
			return l.GetLeaseId()
		}
	}
	s.t.Fatal("no lease")
	return ""
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestEndOfEveryRight(t *testing.T) {
	f := startFleet(t)
	yes, viewer := true, string(store.RoleViewer)
	for _, c := range []struct {
		name string
		take func(s *scene)
		lost []string // everything else must go on
	}{
		{"logout", func(s *scene) { s.owner.post(signalapi.PathSignOut, nil) }, []string{desk, watch, ownerSocket}},
		{"logout of a watcher", func(s *scene) { s.operator.post(signalapi.PathSignOut, nil) }, []string{watch, operatorSocket}},
		{"logout of another browser", func(s *scene) {
			var logins []signalapi.Login
			into(s.t, s.owner.do("GET", signalapi.PathLogins, nil), &logins)
			for _, l := range logins {
				if !l.Current && l.Method == store.MethodPassword {
					s.owner.do("DELETE", signalapi.PathLogins+"/"+l.ID, nil)
				}
			}
		}, []string{secondDesk, secondSocket}},
		{"signed out everywhere by an admin", func(s *scene) { s.admin.post(signalapi.PathAdminUser+s.owner.user.ID+"/signout", nil) },
			[]string{desk, secondDesk, watch, ownerSocket, secondSocket}},
		{"owner disabled", func(s *scene) { s.change(s.owner, signalapi.UserChange{Disabled: &yes}) },
			[]string{desk, secondDesk, watch, ownerSocket, secondSocket}},
		{"watcher disabled", func(s *scene) { s.change(s.operator, signalapi.UserChange{Disabled: &yes}) }, []string{watch, operatorSocket}},
		{"watcher disabled by another process", func(s *scene) {
			s.cli(func(x *gateway.Tools) error { return x.SetDisabled(s.t.Context(), s.operator.user.Name, true) })
		}, []string{watch, operatorSocket}},
		{"watcher demoted", func(s *scene) { s.change(s.operator, signalapi.UserChange{Role: &viewer}) }, []string{watch, operatorSocket}},
		{"watcher demoted by another process", func(s *scene) {
			s.cli(func(x *gateway.Tools) error { return x.SetRole(s.t.Context(), s.operator.user.Name, store.RoleViewer) })
		}, []string{watch, operatorSocket}},
		{"owner banned", func(s *scene) {
			s.admin.post(signalapi.PathAdminBans, signalapi.NewBan{User: s.owner.user.Name, Reason: "noise"})
		}, []string{desk, secondDesk, watch, ownerSocket, secondSocket}},
		{"watcher banned", func(s *scene) {
			s.admin.post(signalapi.PathAdminBans, signalapi.NewBan{User: s.operator.user.Name, Reason: "noise"})
		}, []string{watch, operatorSocket}},
		{"watcher's address banned", func(s *scene) {
			s.admin.post(signalapi.PathAdminBans, signalapi.NewBan{Address: s.operator.address, Reason: "noise"})
		}, []string{watch, operatorSocket}},
		{"watcher banned at the master", func(s *scene) {
			_, err := s.client(identity.RoleOperator).Fleet().PutBan(s.t.Context(), &masterapi.Ban{Kind: masterapi.Ban_KIND_LOGIN, Subject: s.operator.user.ID, Reason: "noise"})
			s.must(err)
		}, []string{watch}},
		{"watcher removed", func(s *scene) {
			_, err := s.client(identity.RoleGateway).Sessions().RemoveViewer(s.t.Context(), &masterapi.RemoveViewerRequest{SessionId: s.desk.grant.Session, ViewerId: s.watch.grant.Viewer})
			s.must(err)
		}, []string{watch}},
		{"control taken by another viewer", func(s *scene) {
			_, err := s.client(identity.RoleGateway).Sessions().AddViewer(s.t.Context(), &masterapi.AddViewerRequest{
				RequestId: rand.Text(), ViewerKey: newKey(s.t).Thumbprint(), SessionId: s.desk.grant.Session, Login: s.owner.user.ID, DirectOnly: true, ReplaceController: true,
			})
			s.must(err)
		}, []string{desk}},
		{"watcher's lease released", func(s *scene) {
			_, err := s.client(identity.RoleGateway).Leases().Release(s.t.Context(), &masterapi.ReleaseRequest{LeaseId: s.leaseOf(s.watch)})
			s.must(err)
		}, []string{watch}},
		{"watcher's lease revoked", func(s *scene) {
			_, err := s.client(identity.RoleOperator).Leases().Revoke(s.t.Context(), &masterapi.RevokeRequest{LeaseId: s.leaseOf(s.watch)})
			s.must(err)
		}, []string{watch}},
		{"session ended by an operator", func(s *scene) {
			s.admin.post(signalapi.PathAdminSessions+"/"+s.desk.grant.Session+"/end", signalapi.Cause{Reason: "maintenance"})
		}, []string{desk, watch}},
		{"password changed", func(s *scene) {
			s.second.post(signalapi.PathPassword, signalapi.PasswordChange{Old: password, New: password + "2"})
		}, []string{desk, watch, ownerSocket}},
		{"password chosen by link", func(s *scene) {
			var invite signalapi.Invite
			into(s.t, s.admin.post(signalapi.PathAdminUser+s.owner.user.ID+"/invite", nil), &invite)
			_, token, _ := strings.Cut(invite.URL, signalapi.LinkFragment)
			s.browser(1).post(signalapi.PathSignIn, signalapi.SignIn{Link: token, Password: password + "3"})
		}, []string{desk, secondDesk, watch, ownerSocket, secondSocket}},
		{"pool denied", func(s *scene) {
			s.admin.post(signalapi.PathAdminRules, signalapi.Rule{Pool: "desks", User: s.owner.user.Name, Effect: store.Deny})
		}, []string{desk, secondDesk, watch}},
		{"certificate of the host revoked", func(s *scene) { s.revoke("host/h1") }, []string{desk, secondDesk, watch, otherDesk}},
		{"host moved to another pool", func(s *scene) { s.moveHost("vault") }, []string{desk, secondDesk, watch}}, // the last: the host stays there
	} {
		t.Run(c.name, func(t *testing.T) {
			s := f.within(t).scene()
			if strings.HasPrefix(c.name, "host moved") {
				s.admin.post(signalapi.PathAdminRules, signalapi.Rule{Pool: "vault", User: s.other.user.Name, Effect: store.Allow})
			}
			began := time.Now()
			c.take(s)
			took := s.expectLost(c.lost)
			if strings.HasPrefix(c.name, "certificate of the host") {
				for p, v := range map[*person]*connection{s.owner: s.desk, s.second: s.secondDesk, s.operator: s.watch, s.other: s.otherDesk} {
					s.eventually(p.user.Name+" is offered another desktop", func() bool { _, ok := p.socket.offered.Load(v.grant.Session); return ok })
				}
				if s.link.Linked() {
					t.Error("the host linked again")
				}
				_, err := s.client(identity.RoleOperator).Fleet().RemoveBan(t.Context(), &masterapi.RemoveBanRequest{Kind: masterapi.Ban_KIND_CERTIFICATE, Subject: s.serials["host/h1"]})
				s.must(err)
				s.eventually("the host is linked again", s.link.Linked)
			}
			t.Logf("%s bit within %s of the call, which took part of it", c.name, took(began).Round(time.Millisecond))
		})
	}
}

// revoke takes the certificate of a service back.
func (s *scene) revoke(name string) {
	s.t.Helper()
	_, err := s.client(identity.RoleOperator).Fleet().PutBan(s.t.Context(), &masterapi.Ban{Kind: masterapi.Ban_KIND_CERTIFICATE, Subject: s.serials[name], Reason: "stolen"})
	s.must(err)
}

// A gateway or operator whose certificate is revoked hears and may do nothing more; what people have, and other gateways, go on.
func TestRevokedCertificateOfAnother(t *testing.T) {
	s := startFleet(t).scene()
	op := s.certified(identity.RoleOperator, "mallory")
	watching := make(chan struct{})
	gateway := s.certified(identity.RoleGateway, "gw9")
	stream, err := gateway.Sessions().WatchSessions(masterclient.At(t.Context(), s.master.Address()), &masterapi.WatchSessionsRequest{GatewayId: "gw9"})
	s.must(err)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	go func() { // ends with the revocation, or the test
		defer close(watching)
		for stream.Receive() {
		}
	}()
	began := time.Now()
	s.revoke("gateway/gw9")
	s.revoke("gateway/gw0")
	s.revoke("operator/mallory")
	select {
	case <-watching:
		t.Logf("the watch was cut within %s", time.Since(began).Round(time.Millisecond))
	case <-time.After(bite):
		t.Error("a revoked gateway goes on watching")
	}
	refused := func(what string, err error) {
		var r *masterapi.RefusedError
		if !errors.As(err, &r) || r.Reason != masterapi.Reason_REASON_UNAUTHENTICATED {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = gateway.Sessions().ListSessions(t.Context(), &masterapi.ListSessionsRequest{})
	refused("a revoked gateway asks", err)
	_, err = op.Fleet().ListHosts(t.Context(), &masterapi.ListHostsRequest{})
	refused("a revoked operator asks", err)
	if s.asks(s.owner) {
		t.Error("a revoked gateway gives a desktop away")
	}
	s.expectLost(nil)
	s.connect(s.other, signalapi.Connect{Pool: "desks"}) // at the other gateway
}

// asks asks for one more desktop and reports whether there is one.
func (s *scene) asks(p *person) bool {
	s.t.Helper()
	var c signalapi.Connect
	newKey(s.t).name(&c)
	c.Pool = "desks"
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(wsjson.Write(ctx, p.socket.conn, signalapi.Request{Type: signalapi.TypeConnect, ID: rand.Text(), Data: c}))
	select {
	case data := <-p.socket.replies:
		return data != nil
	case <-ctx.Done():
		s.t.Fatal("no answer")
		return false
	}
}

// A host that offers what no rule and no operator allows loses what it runs, whosever it is: nobody said that it may show desktops of that
// pool. What is then prepared elsewhere is not its business.
func TestHostThatNobodyAllows(t *testing.T) {
	s := startFleet(t).scene()
	s.admin.post(signalapi.PathAdminRules, signalapi.Rule{Pool: "bank", Effect: store.Allow})
	s.moveHost("bank")
	s.expectLost([]string{desk, secondDesk, watch, otherDesk})
}

// within is the fleet as a subtest uses it: what it opens ends with the subtest.
func (f *fleet) within(t *testing.T) *fleet {
	g := *f
	g.t, g.admin = t, &browser{t, f.admin.url, f.admin.address, f.admin.http}
	return &g
}

// expectLost waits for what must be lost, from the moment on when the act was answered, and checks that all else goes on.
func (s *scene) expectLost(lost []string) (since func(time.Time) time.Duration) {
	s.t.Helper()
	limit := time.NewTimer(bite)
	defer limit.Stop()
	left := s.lost()
	for _, what := range lost {
		select {
		case <-left[what]:
			delete(left, what)
		case <-limit.C:
			s.t.Errorf("%s goes on after %s", what, bite)
			return time.Since
		}
	}
	over := time.Now()
	now := media.Now()
	for what, v := range map[string]*connection{desk: s.desk, secondDesk: s.secondDesk, watch: s.watch, otherDesk: s.otherDesk} {
		if _, still := left[what]; still {
			s.eventually(fmt.Sprint(what, " still shows pictures"), func() bool { return v.shows(now) })
		}
	}
	for what, v := range map[string]*connection{desk: s.desk, secondDesk: s.secondDesk, watch: s.watch} {
		if slices.Contains(lost, what) && v.comesBack(s.t.Context()) {
			s.t.Errorf("%s came back with the token that it had", what)
		}
	}
	for what, ended := range left {
		select {
		case <-ended:
			s.t.Errorf("%s was lost as well", what)
		default:
		}
	}
	return func(t time.Time) time.Duration { return over.Sub(t) }
}

// moveHost lets the host say that it belongs to another pool, over a link of its own; what the master then commands reaches the real host.
func (s *scene) moveHost(pool string) {
	s.t.Helper()
	s.unlink()
	hello := &masterapi.HostHello{
		HostId: "h1", BootId: "moved", Pool: pool, Slots: 64, Identity: s.host.Identity(), DirectAddresses: []string{s.host.Addresses()[0].String()},
	}
	list, err := s.client(identity.RoleGateway).Sessions().ListSessions(s.t.Context(), &masterapi.ListSessionsRequest{})
	s.must(err)
	for _, x := range list.GetSessions() {
		running := &masterapi.HostSession{SessionId: x.GetSessionId()}
		for _, l := range x.GetLeases() {
			running.LeaseIds = append(running.LeaseIds, l.GetLeaseId())
		}
		hello.Sessions = append(hello.Sessions, running)
	}
	link := s.certified(identity.RoleHost, "h1").NewHostLink(func() *masterapi.HostHello { return hello }, func(c *masterapi.HostCommand) {
		switch c := c.GetCommand().(type) {
		case *masterapi.HostCommand_End:
			s.host.End(c.End.GetSessionId(), streamwire.CodeOperator, c.End.GetMessage())
		case *masterapi.HostCommand_EndLease:
			s.host.EndLease(c.EndLease.GetSessionId(), c.EndLease.GetLeaseId(), streamwire.CodeOperator, "")
		}
	})
	run(s.t, link.Run)
	s.eventually("the host is linked again", link.Linked)
}
