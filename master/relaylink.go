package master

import (
	"context"
	"errors"
	"fmt"
	"net"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// linkAPI serves LinkService.
type linkAPI struct{ m *Master }

type relayStream = connect.BidiStream[masterapi.RelayReport, masterapi.RelayCommand]

// RelayLink implements masterapiconnect.LinkServiceHandler.
func (a *linkAPI) RelayLink(ctx context.Context, stream *relayStream) error {
	l, err := a.m.streamLeader()
	if err != nil {
		return err
	}
	first, err := stream.Receive()
	if err != nil {
		return apiError(err)
	}
	hello := first.GetHello()
	relay, err := relayOf(hello)
	if err != nil {
		return apiError(err)
	}
	if err := a.m.speaks(ctx, identity.RoleRelay, relay.ID); err != nil {
		return apiError(err)
	}
	if err := l.registerRelay(ctx, relay, hello); err != nil {
		return apiError(err)
	}
	return apiError(l.serveRelay(ctx, relay, hello, stream))
}

// relayOf checks a hello and makes the record of it.
func relayOf(h *masterapi.RelayHello) (*state.Relay, error) {
	bad := func(format string, args ...any) error {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "relay hello: "+format, args...)
	}
	if h == nil {
		return nil, bad("the first report must be the hello")
	}
	if err := errors.Join(masterapi.CheckID("relay_id", h.GetRelayId()), masterapi.CheckID("boot_id", h.GetBootId())); err != nil {
		return nil, err
	}
	if h.GetRegion() != "" {
		if err := masterapi.CheckID("region", h.GetRegion()); err != nil {
			return nil, err
		}
	}
	const keySize, mostVersion = 32, 64
	if len(h.GetPublicKey()) != keySize {
		return nil, bad("public key has %d bytes, want %d", len(h.GetPublicKey()), keySize)
	}
	host, _, err := net.SplitHostPort(h.GetControlAddress())
	if err != nil || len(h.GetControlAddress()) > 255 {
		return nil, bad("control address %q must be host:port", short(h.GetControlAddress()))
	}
	if h.GetCapacityCircuits() == 0 {
		return nil, bad("capacity of 0 circuits")
	}
	media := h.GetMediaAddress()
	if media == "" {
		media = host
	}
	if len(media) > 255 || len(h.GetVersion()) > mostVersion {
		return nil, bad("media address or version is too long")
	}
	return &state.Relay{
		ID: h.GetRelayId(), Region: h.GetRegion(), Version: h.GetVersion(), ControlAddress: h.GetControlAddress(), MediaAddress: media,
		PublicKey: string(h.GetPublicKey()), Boot: h.GetBootId(), Capacity: h.GetCapacityCircuits(), CapacityBits: h.GetCapacityBps(),
	}, nil
}

func (l *leader) registerRelay(ctx context.Context, relay *state.Relay, hello *masterapi.RelayHello) error {
	var before *state.Relay
	l.m.read(func(s *state.State) { before = s.Relay(relay.ID) })
	if before == nil || !sameRelay(before, relay) {
		if _, err := l.propose(ctx, &state.PutRelay{Relay: *relay, Successor: hello.GetSuccessor()}); err != nil {
			return fmt.Errorf("register relay %s: %w", relay.ID, err)
		}
	}
	if hello.GetDraining() {
		l.selfDrainRelay(relay.ID, "the relay is stopping")
	}
	return nil
}

func sameRelay(a, b *state.Relay) bool {
	return a.Region == b.Region && a.Version == b.Version && a.ControlAddress == b.ControlAddress && a.MediaAddress == b.MediaAddress &&
		a.PublicKey == b.PublicKey && a.Boot == b.Boot && a.Capacity == b.Capacity && a.CapacityBits == b.CapacityBits
}

func (l *leader) selfDrainRelay(id, reason string) {
	l.later(&state.SetRelayState{ID: id, To: masterapi.RelayState_RELAY_STATE_DRAINING, Reason: reason, Actor: state.SelfActor})
}

func (l *leader) serveRelay(ctx context.Context, relay *state.Relay, hello *masterapi.RelayHello, stream *relayStream) error {
	link := newLink[masterapi.RelayReport, masterapi.RelayCommand](relay.ID)
	word := ""
	link.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Welcome{Welcome: l.welcome(func(s *state.State) string {
		if r := s.Relay(relay.ID); r != nil {
			word = state.RelayWord(r.State)
		}
		return word
	})}})
	link.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Bans{Bans: l.banList(false)}})
	l.attachRelay(relay, hello, link)
	defer l.detachRelay(relay.ID, link)
	l.log.Info("relay linked", "relay_id", relay.ID, "state", word)
	ctx, cancel := merge(ctx, l.ctx)
	defer cancel()
	err := link.serve(ctx, stream, func(r *masterapi.RelayReport) { l.relayReport(link, r) })
	l.log.Info("relay unlinked", "relay_id", relay.ID, "cause", err)
	return err
}

func (l *leader) attachRelay(relay *state.Relay, hello *masterapi.RelayHello, link *relayLink) {
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	r := l.fleet.relayLocked(relay.ID)
	if r.link != nil {
		r.link.end(errLinkReplaced)
	}
	if r.boot != hello.GetBootId() {
		r.baseOK, r.baseFailed = 0, 0 // a new process counts from zero
	}
	r.link, r.load, r.boot, r.heard = link, nil, hello.GetBootId(), l.m.cfg.Now()
	if hello.GetConsulNode() != "" {
		r.node = hello.GetConsulNode()
	}
	r.health.SetLink(true, l.m.cfg.Now())
	l.fleet.wakeLocked()
}

func (l *leader) detachRelay(id string, link *relayLink) {
	link.end(errNoLink)
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	if r := l.fleet.relays[id]; r != nil && r.link == link {
		r.link = nil
		r.health.SetLink(false, l.m.cfg.Now())
	}
}

func (l *leader) relayReport(link *relayLink, r *masterapi.RelayReport) {
	switch report := r.GetReport().(type) {
	case *masterapi.RelayReport_Load:
		l.fleet.mu.Lock()
		if live := l.fleet.relays[link.id]; live != nil && live.link == link {
			live.load, live.heard = report.Load, l.m.cfg.Now()
		}
		l.fleet.mu.Unlock()
	case *masterapi.RelayReport_CircuitBound:
		l.circuitBound(link.id, report.CircuitBound.GetLeaseId())
	case *masterapi.RelayReport_CircuitEnded:
		l.log.Debug("circuit ended", "relay_id", link.id, "lease_id", report.CircuitEnded.GetLeaseId(), "cause", report.CircuitEnded.GetReason().Slug())
	case *masterapi.RelayReport_State:
		if report.State.GetDraining() {
			l.selfDrainRelay(link.id, short(report.State.GetReason()))
		}
	}
}

// circuitBound marks a lease as presented; a relay may only say so of its own.
func (l *leader) circuitBound(relay, lease string) {
	own := false
	l.m.read(func(s *state.State) {
		known := s.Lease(lease)
		own = known != nil && known.Relay == relay && known.State == masterapi.LeaseState_LEASE_STATE_ISSUED
	})
	if own {
		l.later(&state.ProgressLease{ID: lease, State: masterapi.LeaseState_LEASE_STATE_PRESENTED})
	}
}
