package master

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

type hostStream = connect.BidiStream[masterapi.HostReport, masterapi.HostCommand]

// HostLink implements masterapiconnect.LinkServiceHandler.
func (a *linkAPI) HostLink(ctx context.Context, stream *hostStream) error {
	l, err := a.m.streamLeader()
	if err != nil {
		return err
	}
	first, err := stream.Receive()
	if err != nil {
		return apiError(err)
	}
	hello := first.GetHello()
	host, err := hostOf(hello)
	if err != nil {
		return apiError(err)
	}
	if err := a.m.speaks(ctx, identity.RoleHost, host.ID); err != nil {
		return apiError(err)
	}
	caller, _ := identity.FromContext(ctx)
	link := newHostLink(host.ID, caller)
	host.LinkedBy, host.Serial = caller.String(), caller.Serial
	if err := l.fleet.mayHold(link); err != nil {
		return apiError(err)
	}
	l.allow(host)
	if err := l.registerHost(ctx, host, hello); err != nil {
		return apiError(err)
	}
	return apiError(l.serveHost(ctx, link, hello, stream))
}

// hostOf checks a hello and makes the record of it.
func hostOf(h *masterapi.HostHello) (*state.Host, error) {
	bad := func(format string, args ...any) error {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "host hello: "+format, args...)
	}
	if h == nil {
		return nil, bad("the first report must be the hello")
	}
	if err := errors.Join(masterapi.CheckID("host_id", h.GetHostId()), masterapi.CheckID("boot_id", h.GetBootId())); err != nil {
		return nil, err
	}
	pool := h.GetPool()
	if pool == "" {
		pool = "default"
	}
	if err := masterapi.CheckID("pool", pool); err != nil {
		return nil, err
	}
	if h.GetRegion() != "" {
		if err := masterapi.CheckID("region", h.GetRegion()); err != nil {
			return nil, err
		}
	}
	if len(h.GetIdentity()) != ed25519.PublicKeySize {
		return nil, bad("identity has %d bytes, an Ed25519 public key has %d", len(h.GetIdentity()), ed25519.PublicKeySize)
	}
	c := h.GetCapabilities()
	if n := len(h.GetDirectAddresses()); n > masterapi.MaxDirectAddresses {
		return nil, bad("%d direct addresses, at most %d", n, masterapi.MaxDirectAddresses)
	}
	if n := len(c.GetAttributes()); n > masterapi.MaxAttributes {
		return nil, bad("%d attributes, at most %d", n, masterapi.MaxAttributes)
	}
	const mostCodecs, mostText = 16, masterapi.MaxAttributeLen
	if len(c.GetCodecs()) > mostCodecs {
		return nil, bad("%d codecs, at most %d", len(c.GetCodecs()), mostCodecs)
	}
	host := &state.Host{
		ID: h.GetHostId(), Pool: pool, Region: h.GetRegion(), Version: h.GetVersion(), Identity: string(h.GetIdentity()), Boot: h.GetBootId(),
		Slots: h.GetSlots(), Addresses: h.GetDirectAddresses(), Compositor: c.GetCompositor(), Capture: c.GetCapturePlugin(),
		Encoder: c.GetEncoderPlugin(), GPU: c.GetGpu(), Codecs: c.GetCodecs(),
	}
	for k, v := range c.GetAttributes() {
		host.Attributes = append(host.Attributes, state.Attribute{Key: k, Value: v})
	}
	slices.SortFunc(host.Attributes, func(a, b state.Attribute) int { return cmp.Compare(a.Key, b.Key) })
	for _, text := range slices.Concat([]string{host.Version, host.Compositor, host.Capture, host.Encoder, host.GPU}, host.Addresses, host.Codecs, attributeTexts(host)) {
		if len(text) > mostText {
			return nil, bad("a text of %d bytes, at most %d", len(text), mostText)
		}
	}
	return host, nil
}

func attributeTexts(h *state.Host) (texts []string) {
	for _, a := range h.Attributes {
		texts = append(texts, a.Key, a.Value)
	}
	return texts
}

// registerHost ends the sessions that the host has lost, and writes what changed about it. In this order: should the link end in between, the
// next hello must still be seen to come from another boot.
func (l *leader) registerHost(ctx context.Context, host *state.Host, hello *masterapi.HostHello) error {
	var before *state.Host
	l.m.read(func(s *state.State) { before = s.Host(host.ID) })
	for _, id := range l.lost(hello, before) {
		if _, err := l.propose(ctx, &state.EndSession{ID: id, Reason: masterapi.Reason_REASON_HOST_RESTARTED}); err != nil {
			return fmt.Errorf("end session %s, which host %s has lost: %w", id, host.ID, err)
		}
	}
	if before == nil || !sameHost(before, host) {
		if _, err := l.propose(ctx, &state.PutHost{Host: *host}); err != nil {
			return fmt.Errorf("register host %s: %w", host.ID, err)
		}
	}
	if hello.GetDraining() {
		l.selfDrainHost(host.ID, "the host is stopping")
	}
	return nil
}

func sameHost(a, b *state.Host) bool {
	return a.Pool == b.Pool && a.Region == b.Region && a.Version == b.Version && a.Identity == b.Identity && a.Boot == b.Boot && a.Slots == b.Slots && a.Rule == b.Rule &&
		a.LinkedBy == b.LinkedBy && a.Serial == b.Serial &&
		a.Compositor == b.Compositor && a.Capture == b.Capture && a.Encoder == b.Encoder && a.GPU == b.GPU &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Codecs, b.Codecs) && slices.Equal(a.Attributes, b.Attributes)
}

func (l *leader) selfDrainHost(id, reason string) {
	l.later(&state.SetHostState{ID: id, To: masterapi.HostStateWord_HOST_STATE_DRAINING, Reason: reason, Actor: state.SelfActor})
}

func (l *leader) serveHost(ctx context.Context, link *hostLink, hello *masterapi.HostHello, stream *hostStream) error {
	link.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_Welcome{Welcome: l.welcome(func(s *state.State) string {
		if h := s.Host(link.id); h != nil {
			return state.HostWord(h.State)
		}
		return ""
	})}})
	if err := l.attachHost(hello, link); err != nil {
		return err
	}
	defer l.detachHost(link.id, link)
	l.endOver(link, hello) // after the link is known: what ends from then on is told over it
	l.log.Info("host linked", "host_id", link.id, "sessions", len(hello.GetSessions()))
	ctx, cancel := merge(ctx, l.ctx)
	defer cancel()
	err := link.serve(ctx, stream, func(r *masterapi.HostReport) { l.hostReport(link, r) })
	l.log.Info("host unlinked", "host_id", link.id, "cause", err)
	return err
}

// merge ends with either of the two.
func merge(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

func (l *leader) welcome(word func(*state.State) string) *masterapi.Welcome {
	now := l.m.cfg.Now()
	w := &masterapi.Welcome{
		ServerId: l.m.cfg.ID, Term: l.term, ReportIntervalMs: uint32(reportInterval.Milliseconds()), Revocations: l.revocations(), Now: stampTime(now),
	}
	l.m.read(func(s *state.State) { w.KeySet, w.State = keySetMessage(s), word(s) })
	return w
}

// mayHold refuses an instance of a job that speaks for a host which another instance is now: the hosts of one job share the right to
// its names. When the other is gone its link is too, and the name is free. An instance is one host: as many as it likes would get as many
// sessions as it likes, though the rules allow each of them one slot.
func (f *fleet) mayHold(link *hostLink) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.mayHoldLocked(link)
}

func (f *fleet) mayHoldLocked(link *hostLink) error {
	if link.caller.Instance == "" {
		return nil
	}
	if other := f.speaking[link.caller.Instance]; other != nil && other.id != link.id {
		return masterapi.Refuse(masterapi.Reason_REASON_PERMISSION_DENIED, "allocation %s is host %s; it may not be %s too", link.caller.Instance, other.id, link.id)
	}
	h := f.hosts[link.id]
	if h == nil || h.link == nil || h.link.caller.Instance == link.caller.Instance || h.link.caller.Instance == "" {
		return nil
	}
	return masterapi.Refuse(masterapi.Reason_REASON_PERMISSION_DENIED, "host %s is linked by allocation %s; %s may not take its place", link.id, h.link.caller.Instance, link.caller.Instance)
}

func (l *leader) attachHost(hello *masterapi.HostHello, link *hostLink) error {
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	if err := l.fleet.mayHoldLocked(link); err != nil {
		return err
	}
	h := l.fleet.hostLocked(link.id)
	if h.link != nil {
		h.link.end(errLinkReplaced)
	}
	h.link, h.load = link, nil
	if link.caller.Instance != "" {
		l.fleet.speaking[link.caller.Instance] = link
	}
	if node := hello.GetConsulNode(); node != "" {
		h.node = node
	}
	h.health.SetLink(true, l.m.cfg.Now())
	h.health.Unusable = unusable(hello)
	l.fleet.wakeLocked()
	return nil
}

func (l *leader) detachHost(id string, link *hostLink) {
	link.end(errNoLink)
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	if l.fleet.speaking[link.caller.Instance] == link {
		delete(l.fleet.speaking, link.caller.Instance)
	}
	if h := l.fleet.hosts[id]; h != nil && h.link == link {
		h.link = nil
		h.health.SetLink(false, l.m.cfg.Now())
	}
}

// lost are the sessions that the state holds and the host does not run.
func (l *leader) lost(hello *masterapi.HostHello, before *state.Host) (lost []string) {
	running := sessionsOf(hello)
	rebooted := before != nil && before.Boot != hello.GetBootId()
	now := l.m.cfg.Now()
	l.m.read(func(s *state.State) {
		for _, id := range s.SessionsOn(hello.GetHostId()) {
			session := s.Session(id)
			if !running[id] && (now.Sub(session.Created.Time()) > youngSession || rebooted && started(s, session)) {
				lost = append(lost, id)
			}
		}
	})
	return lost
}

// endOver ends what has ended meanwhile of what a host says it runs: whole sessions, and leases of those that go on.
func (l *leader) endOver(link *hostLink, hello *masterapi.HostHello) {
	over := map[string]masterapi.Reason{}
	var left []*masterapi.EndLease
	l.m.read(func(s *state.State) {
		for _, running := range hello.GetSessions() {
			id := running.GetSessionId()
			if session := s.Session(id); session == nil {
				over[id] = masterapi.Reason_REASON_LEASE_EXPIRED
			} else if !session.Live() {
				over[id] = session.Reason
			} else {
				left = append(left, endedLeases(s, running)...)
			}
		}
	})
	for _, e := range left {
		link.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_EndLease{EndLease: e}})
	}
	for id, reason := range over {
		link.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_End{End: &masterapi.EndHostSession{SessionId: id, Reason: reason}}})
	}
}

// endedLeases are the leases that a host holds for a session and the state does not.
func endedLeases(s *state.State, running *masterapi.HostSession) (ended []*masterapi.EndLease) {
	for _, id := range running.GetLeaseIds() {
		e := &masterapi.EndLease{LeaseId: id, SessionId: running.GetSessionId(), Reason: masterapi.Reason_REASON_LEASE_EXPIRED}
		if lease := s.Lease(id); lease != nil && lease.Session == e.SessionId {
			if lease.Live() {
				continue
			}
			e.ViewerId, e.Reason = lease.Viewer, lease.Reason
		}
		ended = append(ended, e)
	}
	return ended
}

// sessionsOf are the sessions that a host says it runs.
func sessionsOf(hello *masterapi.HostHello) map[string]bool {
	ids := make(map[string]bool, len(hello.GetSessions()))
	for _, s := range hello.GetSessions() {
		ids[s.GetSessionId()] = true
	}
	return ids
}

// started reports whether a viewer was ever seen: then the host had the session and lost it.
func started(s *state.State, session *state.Session) bool {
	for _, lease := range s.LiveLeases(session) {
		if lease.State != masterapi.LeaseState_LEASE_STATE_ISSUED {
			return true
		}
	}
	return false
}

func (l *leader) hostReport(link *hostLink, r *masterapi.HostReport) {
	switch report := r.GetReport().(type) {
	case *masterapi.HostReport_Hello:
		l.hostChangedItself(link, report.Hello)
	case *masterapi.HostReport_Load:
		l.fleet.mu.Lock()
		if h := l.fleet.hosts[link.id]; h != nil && h.link == link {
			h.load = report.Load
		}
		l.fleet.mu.Unlock()
	case *masterapi.HostReport_Prepared:
		link.answered(report.Prepared.GetLeaseId(), prepareAnswer{prepared: report.Prepared})
	case *masterapi.HostReport_PrepareFailed:
		link.answered(report.PrepareFailed.GetLeaseId(), prepareAnswer{failed: report.PrepareFailed})
	case *masterapi.HostReport_SessionEnded:
		l.hostEnded(link.id, report.SessionEnded)
	case *masterapi.HostReport_LeaseProgress:
		l.progress(link.id, report.LeaseProgress)
	case *masterapi.HostReport_State:
		if report.State.GetDraining() {
			l.selfDrainHost(link.id, short(report.State.GetReason()))
		} else {
			l.later(&state.SetHostState{ID: link.id, To: masterapi.HostStateWord_HOST_STATE_ACTIVE, Reason: short(report.State.GetReason()), Actor: state.SelfActor})
		}
	}
}

// hostChangedItself takes a hello on a standing link: what works on the host is another than before.
func (l *leader) hostChangedItself(link *hostLink, hello *masterapi.HostHello) {
	host, err := hostOf(hello)
	if err == nil && host.ID != link.id {
		err = masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "host hello: host %s cannot become %s", link.id, host.ID)
	}
	if err != nil {
		l.log.Warn("change of a host not taken", "host_id", link.id, "err", err)
		return
	}
	host.LinkedBy, host.Serial = link.caller.String(), link.caller.Serial
	l.allow(host)
	var before *state.Host
	l.m.read(func(s *state.State) { before = s.Host(host.ID) })
	if before != nil && !sameHost(before, host) {
		l.later(&state.PutHost{Host: *host})
	}
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	if h := l.fleet.hosts[link.id]; h != nil && h.link == link {
		h.health.Unusable = unusable(hello)
		l.fleet.wakeLocked()
	}
}

// unusable reports whether a host says that no session can run on it.
func unusable(hello *masterapi.HostHello) bool {
	return hello.GetCapabilities().GetAttributes()[masterapi.AttributeUnusable] != ""
}

// short cuts text of a machine to what a person reads.
func short(text string) string { return text[:min(len(text), masterapi.MaxMessageLen)] }

// onHost reports whether the session is the host's own.
func (l *leader) onHost(session, host string) (own bool) {
	l.m.read(func(s *state.State) {
		if known := s.Session(session); known != nil {
			own = known.Host == host
		}
	})
	return own
}

func (l *leader) hostEnded(host string, e *masterapi.HostSessionEnded) {
	if !l.onHost(e.GetSessionId(), host) {
		return
	}
	reason := e.GetReason()
	if reason == masterapi.Reason_REASON_UNSPECIFIED {
		reason = masterapi.Reason_REASON_HOST_FAILED
	}
	l.later(&state.EndSession{ID: e.GetSessionId(), Reason: reason, Message: short(e.GetMessage())})
}

// progress follows a lease through its life and ends what the viewer left behind when it switched paths.
func (l *leader) progress(host string, p *masterapi.LeaseProgress) {
	var lease *state.Lease
	var left []string
	l.m.read(func(s *state.State) {
		if lease = s.Lease(p.GetLeaseId()); lease == nil || lease.Host != host || !lease.Live() {
			lease = nil
			return
		}
		for _, other := range s.LiveLeases(s.Session(lease.Session)) {
			if other.Viewer == lease.Viewer && other.ID != lease.ID && other.Issued <= lease.Issued {
				left = append(left, other.ID)
			}
		}
	})
	if lease == nil {
		return
	}
	switch p.GetState() {
	case masterapi.LeaseState_LEASE_STATE_RELEASED:
		reason := p.GetReason()
		if reason == masterapi.Reason_REASON_UNSPECIFIED {
			reason = masterapi.Reason_REASON_VIEWER_LEFT
		}
		l.later(&state.EndLease{ID: lease.ID, State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: reason})
	case masterapi.LeaseState_LEASE_STATE_PRESENTED:
		l.later(&state.ProgressLease{ID: lease.ID, State: p.GetState()})
	case masterapi.LeaseState_LEASE_STATE_ACTIVE:
		l.activated(lease, p, left)
	}
}

func (l *leader) activated(lease *state.Lease, p *masterapi.LeaseProgress, left []string) {
	l.later(&state.ProgressLease{ID: lease.ID, State: masterapi.LeaseState_LEASE_STATE_ACTIVE})
	for _, id := range left {
		l.later(&state.EndLease{ID: id, State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: masterapi.Reason_REASON_MOVED})
	}
	path := "direct"
	if isRelay(p.GetPath()) {
		path = "relay"
	}
	l.m.metrics.paths.WithLabelValues(path).Inc()
	if ms := p.GetSetupMilliseconds(); ms > 0 {
		l.m.metrics.setup.Observe(float64(ms) / 1000)
	}
	l.hub.publish(&masterapi.SessionEvent{
		Kind: masterapi.SessionEvent_KIND_PATH, SessionId: lease.Session, ViewerId: lease.Viewer, LeaseId: lease.ID, Path: p.GetPath(),
	})
}
