package gateway

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
	"github.com/wavry/fleet/master/masterclient"
)

// fleet is a master with one relay and a few hosts, as small as the gateway's tests need, behind the real protocol.
type fleet struct {
	masterapiconnect.UnimplementedSessionServiceHandler
	masterapiconnect.UnimplementedLeaseServiceHandler
	masterapiconnect.UnimplementedFleetServiceHandler

	address string
	server  *http.Server
	served  chan struct{}

	mu       sync.Mutex // guards the following
	admitted map[string]*masterapi.Grant
	sessions map[string]*masterapi.Session
	watchers map[chan *masterapi.SessionEvent]struct{}
	bans     map[string]*masterapi.Ban
	requests []*masterapi.AdmitRequest
	admits   func() // called while a session is admitted; nil: nothing
	renewals int
	slots    int
	relay    masterapi.RelayState
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{admitted: map[string]*masterapi.Grant{}, sessions: map[string]*masterapi.Session{}, bans: map[string]*masterapi.Ban{},
		watchers: map[chan *masterapi.SessionEvent]struct{}{}, slots: 8, relay: masterapi.RelayState_RELAY_STATE_ACTIVE}
	f.serve(t, "127.0.0.1:0")
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) serve(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(masterapiconnect.NewSessionServiceHandler(f))
	mux.Handle(masterapiconnect.NewLeaseServiceHandler(f))
	mux.Handle(masterapiconnect.NewFleetServiceHandler(f))
	mux.Handle(masterapiconnect.NewKeyServiceHandler(fleetKeys{}))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	f.address, f.server, f.served = l.Addr().String(), &http.Server{Handler: mux, Protocols: protocols}, make(chan struct{})
	go func() { // ends with stop
		defer close(f.served)
		_ = f.server.Serve(l)
	}()
}

func (f *fleet) stop() {
	_ = f.server.Close()
	<-f.served
}

func (f *fleet) client(t *testing.T) *masterclient.Client {
	t.Helper()
	c, err := masterclient.New(masterclient.Config{Addresses: []string{f.address}, Dial: (&net.Dialer{}).DialContext, RetryFor: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (f *fleet) Admit(_ context.Context, r *masterapi.AdmitRequest) (*masterapi.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r)
	if f.admits != nil {
		f.admits()
	}
	if g := f.admitted[r.GetRequestId()]; g != nil {
		return g, nil
	}
	if r.GetPool() != "gnome" {
		return nil, masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_POOL_UNKNOWN, "pool %q", r.GetPool()))
	}
	if len(f.sessions) >= f.slots {
		return nil, masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_NO_FREE_HOST, "pool %q", r.GetPool()).After(3 * time.Second))
	}
	id := fmt.Sprint("s-", len(f.sessions)+1)
	f.sessions[id] = &masterapi.Session{SessionId: id, Login: r.GetLogin(), Pool: r.GetPool(), HostId: "host-1",
		State: masterapi.SessionState_SESSION_STATE_ADMITTED, Created: timestamppb.Now()}
	return f.grantLocked(r.GetRequestId(), id, r.GetViewerId(), r.GetRole(), r.GetForceRelay()), nil
}

func (f *fleet) grantLocked(request, session, viewer string, role masterapi.ViewerRole, forceRelay bool) *masterapi.Grant {
	lease := fmt.Sprint("lease-", len(f.admitted)+1)
	expiry := timestamppb.New(time.Now().Add(5 * time.Minute))
	g := &masterapi.Grant{SessionId: session, ViewerId: viewer, LeaseId: lease, ViewerToken: "v4.public." + lease, Expiry: expiry, HostId: "host-1",
		HostIdentity: make([]byte, ed25519.PublicKeySize), CertificateSha256: [][]byte{make([]byte, 32)}, CertificateExpiry: expiry,
		HostSignature: make([]byte, ed25519.SignatureSize), Role: role, Pool: "gnome"}
	if !forceRelay {
		g.Candidates = append(g.Candidates, &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_DIRECT, Address: "[2001:db8::1]:4433"})
	}
	g.Candidates = append(g.Candidates, &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY, Address: "192.0.2.9:3478", RelayId: "relay-1"})
	f.admitted[request] = g
	s := f.sessions[session]
	s.Leases = append([]*masterapi.Lease{{LeaseId: lease, SessionId: session, ViewerId: viewer, RelayId: "relay-1", Expiry: expiry}}, s.Leases...)
	return g
}

func (f *fleet) AddViewer(_ context.Context, r *masterapi.AddViewerRequest) (*masterapi.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.admitted[r.GetRequestId()]; g != nil {
		return g, nil
	}
	return f.grantLocked(r.GetRequestId(), r.GetSessionId(), r.GetViewerId(), r.GetRole(), r.GetForceRelay()), nil
}

func (f *fleet) RemoveViewer(_ context.Context, r *masterapi.RemoveViewerRequest) (*masterapi.RemoveViewerResponse, error) {
	f.mu.Lock()
	s := f.sessions[r.GetSessionId()]
	if s == nil {
		f.mu.Unlock()
		return nil, masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, ""))
	}
	s.Leases = slices.DeleteFunc(s.Leases, func(l *masterapi.Lease) bool { return l.GetViewerId() == r.GetViewerId() })
	f.mu.Unlock()
	f.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_VIEWER_REMOVED, SessionId: r.GetSessionId(), ViewerId: r.GetViewerId(), Reason: r.GetReason()})
	return &masterapi.RemoveViewerResponse{}, nil
}

func (f *fleet) MoveSession(_ context.Context, r *masterapi.MoveSessionRequest) (*masterapi.MoveSessionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.admitted[r.GetRequestId()]
	if g == nil {
		g = f.grantLocked(r.GetRequestId(), r.GetSessionId(), r.GetViewerId(), masterapi.ViewerRole_VIEWER_ROLE_CONTROL, true)
	}
	return &masterapi.MoveSessionResponse{Grants: []*masterapi.Grant{g}}, nil
}

func (f *fleet) EndSession(_ context.Context, r *masterapi.EndSessionRequest) (*masterapi.EndSessionResponse, error) {
	f.endWith(r.GetSessionId(), r.GetReason(), r.GetMessage())
	return &masterapi.EndSessionResponse{}, nil
}

// endQuietly ends a session while nobody watches.
func (f *fleet) endQuietly(id string, reason masterapi.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[id].State, f.sessions[id].EndReason = masterapi.SessionState_SESSION_STATE_ENDED, reason
}

func (f *fleet) endWith(id string, reason masterapi.Reason, message string) {
	f.endQuietly(id, reason)
	f.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_ENDED, SessionId: id, Reason: reason, Message: message})
}

func (f *fleet) tell(e *masterapi.SessionEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		w <- e
	}
}

func (f *fleet) GetSession(_ context.Context, r *masterapi.GetSessionRequest) (*masterapi.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[r.GetSessionId()]; s != nil {
		return s, nil
	}
	return nil, masterapiconnect.ToConnect(masterapi.Refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, ""))
}

func (f *fleet) ListSessions(context.Context, *masterapi.ListSessionsRequest) (*masterapi.ListSessionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := &masterapi.ListSessionsResponse{}
	for _, s := range f.sessions {
		if s.GetState() != masterapi.SessionState_SESSION_STATE_ENDED {
			list.Sessions = append(list.Sessions, s)
		}
	}
	return list, nil
}

func (f *fleet) WatchSessions(ctx context.Context, _ *masterapi.WatchSessionsRequest, stream *watchStream) error {
	events := make(chan *masterapi.SessionEvent, 64)
	f.mu.Lock()
	f.watchers[events] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, events)
	}()
	if err := stream.Send(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_SYNC}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}

func (f *fleet) Renew(_ context.Context, r *masterapi.RenewRequest) (*masterapi.RenewResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewals++
	return &masterapi.RenewResponse{LeaseId: r.GetLeaseId(), ViewerToken: fmt.Sprintf("%s-%d", r.GetLeaseId(), f.renewals),
		Expiry: timestamppb.New(time.Now().Add(5 * time.Minute))}, nil
}

func (f *fleet) ListHosts(context.Context, *masterapi.ListHostsRequest) (*masterapi.ListHostsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &masterapi.ListHostsResponse{Hosts: []*masterapi.Host{{
		HostId: "host-1", Pool: "gnome", Slots: uint32(f.slots), SlotsUsed: uint32(len(f.sessions)), State: masterapi.HostStateWord_HOST_STATE_ACTIVE,
		Capabilities: &masterapi.HostCapabilities{Compositor: "gnome", EncoderPlugin: "software"}, Health: &masterapi.Health{Status: "passing", Linked: true},
	}, {
		HostId: "host-2", Pool: "secret", Slots: 1, State: masterapi.HostStateWord_HOST_STATE_ACTIVE, Health: &masterapi.Health{Status: "critical", Linked: true},
	}}}, nil
}

func (f *fleet) SetHostState(_ context.Context, r *masterapi.SetHostStateRequest) (*masterapi.Host, error) {
	return &masterapi.Host{HostId: r.GetHostId(), State: r.GetState(), Reason: r.GetReason()}, nil
}

func (f *fleet) ListRelays(context.Context, *masterapi.ListRelaysRequest) (*masterapi.ListRelaysResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &masterapi.ListRelaysResponse{Relays: []*masterapi.Relay{{RelayId: "relay-1", State: f.relay, Health: &masterapi.Health{Status: "passing", Stale: true}}}}, nil
}

func (f *fleet) SetRelayState(_ context.Context, r *masterapi.SetRelayStateRequest) (*masterapi.Relay, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relay = r.GetState()
	return &masterapi.Relay{RelayId: r.GetRelayId(), State: f.relay, Reason: r.GetReason()}, nil
}

func (f *fleet) PutBan(_ context.Context, b *masterapi.Ban) (*masterapi.PutBanResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bans[b.GetSubject()] = b
	return &masterapi.PutBanResponse{}, nil
}

func (f *fleet) RemoveBan(_ context.Context, r *masterapi.RemoveBanRequest) (*masterapi.RemoveBanResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bans, r.GetSubject())
	return &masterapi.RemoveBanResponse{}, nil
}

// fleetKeys is the fleet's key service; two services have a Revoke.
type fleetKeys struct {
	masterapiconnect.UnimplementedKeyServiceHandler
}

func (f fleetKeys) GetKeySet(context.Context, *masterapi.GetKeySetRequest) (*masterapi.KeySet, error) {
	return &masterapi.KeySet{Version: 1}, nil
}

func (f fleetKeys) ListKeys(context.Context, *masterapi.ListKeysRequest) (*masterapi.ListKeysResponse, error) {
	return &masterapi.ListKeysResponse{Keys: []*masterapi.SigningKey{{KeyId: "k-1", State: masterapi.KeyState_KEY_STATE_SIGNING}}}, nil
}

func (f fleetKeys) Rotate(ctx context.Context, _ *masterapi.RotateKeyRequest) (*masterapi.ListKeysResponse, error) {
	return f.ListKeys(ctx, nil)
}

// allocated is how many sessions there ever were.
func (f *fleet) allocated() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sessions)
}
