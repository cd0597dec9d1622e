// Package masterlink ties a host to the master: it carries out the master's commands (prepare a session, end one, renew a lease,
// drain), binds circuits at relays, and reports what viewers do. The link itself, leader changes included, is masterclient's.
//
// The master decides, this package obeys: while the master is away, running sessions go on until their leases end.
package masterlink

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// Host is what the link drives.
type Host interface {
	Ready() <-chan struct{}
	Prepare(token, name string) (hostruntime.Prepared, error)
	Renew(token string) error
	End(sessionID string, code streamwire.Code, text string)
	EndLease(sessionID, leaseID string, code streamwire.Code, text string)
	Drain(text string)
	Undrain()
	Addresses() []netip.AddrPort
	Circuit(cfg transport.CircuitConfig) (hostruntime.Circuit, error)
	SendControl(b []byte, to netip.AddrPort) error
	FreeSlots() int
}

// Config of a Link.
type Config struct {
	Client   *masterclient.Client
	Verifier *masterclient.Verifier

	ID, Pool, Region, Version string
	Identity                  ed25519.PrivateKey
	Slots                     int
	// Capabilities is asked at every connect and every second; a change is told.
	Capabilities func() *masterapi.HostCapabilities
	// ConsulNode is the name of the Consul node this host runs on; may be empty.
	ConsulNode string
	Logger     *slog.Logger
	Now        func() time.Time
}

// Link is one host's tie to the master. Create it with New, give it its host with Bind, run it with Run.
type Link struct {
	cfg  Config
	log  *slog.Logger
	boot string
	legs *legs

	// Set by Bind before Run.
	host Host
	link *masterclient.HostLink

	ctx   context.Context // of Run
	tasks errgroup.Group

	mu       sync.Mutex // guards the following
	leases   map[string]*held
	draining string // why this host drains itself; empty: it does not
	drained  bool   // the master told it to take no sessions
	said     *masterapi.HostCapabilities
}

// held is a lease that this host serves.
type held struct {
	id, session, viewer string
	relay, region       string // of its circuit; empty when direct only
	expiry              time.Time
	renewing            bool
	retryAt             time.Time
	over                bool // its session is told to end, and says so when it has
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Link, error) {
	if cfg.Client == nil || cfg.Verifier == nil || cfg.ID == "" || cfg.Slots < 1 || len(cfg.Identity) != ed25519.PrivateKeySize {
		return nil, errors.New("masterlink: Client, Verifier, ID, Identity and Slots are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Capabilities == nil {
		cfg.Capabilities = func() *masterapi.HostCapabilities { return nil }
	}
	log := cfg.Logger.With("component", "masterlink")
	return &Link{cfg: cfg, log: log, boot: rand.Text(), legs: newLegs(log), leases: map[string]*held{}}, nil
}

// Bind gives the link its host, which was created with the link's Verify, Control and Observer.
func (l *Link) Bind(host Host) {
	l.host = host
	l.link = l.cfg.Client.NewHostLink(l.hello, l.command)
}

// Run keeps the link until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	select {
	case <-l.host.Ready():
	case <-ctx.Done():
		return nil
	}
	l.ctx = ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.link.Run(ctx) })
	g.Go(func() error { l.housekeeping(ctx); return nil })
	err := g.Wait()
	l.legs.closeAll()
	return errors.Join(err, l.tasks.Wait())
}

// Linked reports whether the master knows this host now.
func (l *Link) Linked() bool { return l.link.Linked() }

// Verify is hostruntime.Config.Verify: the master's key set and revocations, offline.
func (l *Link) Verify(token string, now time.Time) (lease.ViewerClaims, error) {
	claims, reason := l.cfg.Verifier.VerifyViewer(token, now)
	switch reason {
	case masterapi.Reason_REASON_UNSPECIFIED:
		return claims, nil
	case masterapi.Reason_REASON_EXPIRED:
		return claims, lease.ErrExpired
	case masterapi.Reason_REASON_NOT_YET_VALID:
		return claims, lease.ErrNotYetValid
	case masterapi.Reason_REASON_UNKNOWN_KEY:
		return claims, lease.ErrUnknownKey
	}
	return claims, masterapi.Refuse(reason, "lease of session %q", claims.Session)
}

// Control is hostruntime.Config.Control.
func (l *Link) Control(b []byte, from netip.AddrPort) { l.legs.handle(b, from, l.cfg.Now()) }

// Drain tells the master that this host takes no more sessions, and the running ones' viewers why.
func (l *Link) Drain(why string) {
	l.mu.Lock()
	l.draining = why
	l.mu.Unlock()
	l.host.Drain(why)
	l.report(&masterapi.HostReport{Report: &masterapi.HostReport_State{State: &masterapi.HostState{Draining: true, Reason: "the host is stopping"}}})
}

func (l *Link) hello() *masterapi.HostHello {
	l.mu.Lock()
	defer l.mu.Unlock()
	sessions := map[string]*masterapi.HostSession{}
	for _, h := range l.leases {
		if h.over {
			continue
		}
		s := sessions[h.session]
		if s == nil {
			s = &masterapi.HostSession{SessionId: h.session}
			sessions[h.session] = s
		}
		s.LeaseIds = append(s.LeaseIds, h.id)
	}
	hello := &masterapi.HostHello{
		HostId: l.cfg.ID, Pool: l.cfg.Pool, Region: l.cfg.Region, Version: l.cfg.Version, BootId: l.boot,
		Identity: l.cfg.Identity.Public().(ed25519.PublicKey), Slots: uint32(l.cfg.Slots), Capabilities: l.cfg.Capabilities(),
		ConsulNode: l.cfg.ConsulNode, Draining: l.draining != "",
	}
	l.said = hello.Capabilities
	for _, a := range l.host.Addresses() {
		hello.DirectAddresses = append(hello.DirectAddresses, a.String())
	}
	for _, s := range sessions {
		hello.Sessions = append(hello.Sessions, s)
	}
	return hello
}

// sayChanges tells the master when something else works on this host than it said last.
func (l *Link) sayChanges() {
	now := l.cfg.Capabilities()
	l.mu.Lock()
	same := proto.Equal(l.said, now)
	l.mu.Unlock()
	if same {
		return
	}
	hello := &masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: l.hello()}}
	if err := l.link.Send(hello); err != nil {
		l.mu.Lock()
		l.said = nil // again in a second
		l.mu.Unlock()
	}
}

// report sends what the master would like to know. What is lost while the link is down comes with the next hello.
func (l *Link) report(r *masterapi.HostReport) {
	if err := l.link.Send(r); err != nil && !errors.Is(err, masterclient.ErrNotLinked) {
		l.log.Warn("report to the master lost", "cause", err)
	}
}

// task runs f beside the link; Run waits for it.
func (l *Link) task(f func(ctx context.Context)) {
	l.tasks.Go(func() error { f(l.ctx); return nil })
}

// command carries out one command; what takes time is a task.
func (l *Link) command(c *masterapi.HostCommand) {
	switch c := c.Command.(type) {
	case *masterapi.HostCommand_Welcome:
		l.setKeys(c.Welcome.GetKeySet())
		l.revoke(c.Welcome.GetRevocations())
		l.follow(c.Welcome.GetState())
		l.log.Info("linked to the master", "term", c.Welcome.GetTerm(), "state", c.Welcome.GetState())
	case *masterapi.HostCommand_Prepare:
		fresh := l.hold(c.Prepare)
		l.task(func(ctx context.Context) { l.prepare(ctx, c.Prepare, fresh) })
	case *masterapi.HostCommand_End:
		l.markOver(c.End.GetSessionId())
		l.host.End(c.End.GetSessionId(), endCode(c.End.GetReason()), sentence(c.End.GetReason(), c.End.GetMessage()))
	case *masterapi.HostCommand_EndLease:
		l.endLease(c.EndLease)
	case *masterapi.HostCommand_Renewed:
		l.renewed(c.Renewed.GetLeaseId(), c.Renewed, c.Renewed.GetExpiry().AsTime())
	case *masterapi.HostCommand_Drain:
		l.mu.Lock()
		l.drained = true
		own := l.draining != ""
		l.mu.Unlock()
		if !own { // else viewers know already, and for how long they may stay
			l.host.Drain(notice(c.Drain.GetReason()))
		}
	case *masterapi.HostCommand_Activate:
		l.mu.Lock()
		l.draining, l.drained = "", false
		l.mu.Unlock()
		l.host.Undrain()
	case *masterapi.HostCommand_KeySet:
		l.setKeys(c.KeySet)
	case *masterapi.HostCommand_Revocations:
		l.revoke(c.Revocations)
	}
}

// revoke ends what is revoked: the master says so too, but not to a host that was not linked when it happened.
func (l *Link) revoke(r *masterapi.Revocations) {
	l.cfg.Verifier.SetRevocations(r)
	l.mu.Lock()
	var over []*held
	for _, id := range r.GetLeaseIds() {
		if h := l.leases[id]; h != nil {
			over = append(over, h)
		}
	}
	l.mu.Unlock()
	for _, h := range over {
		l.endLease(h.end(masterapi.Reason_REASON_LEASE_REVOKED))
	}
}

// follow catches up with an operator who drained or activated this host while it was not linked.
func (l *Link) follow(word string) {
	l.mu.Lock()
	drain, undrain := false, false
	if l.draining == "" && word != "" {
		drain = word != wordActive && !l.drained
		undrain = word == wordActive && l.drained
		l.drained = word != wordActive
	}
	l.mu.Unlock()
	switch {
	case drain:
		l.host.Drain(notice(""))
	case undrain:
		l.host.Undrain()
	}
}

// notice is what viewers read when an operator drains this host.
func notice(reason string) string {
	const text = "This host takes no new sessions; yours goes on."
	if reason == "" {
		return text
	}
	return text + " Reason: " + reason
}

// wordActive is the master's word for a host that takes sessions.
const wordActive = "active"

func (l *Link) setKeys(set *masterapi.KeySet) {
	if err := l.cfg.Verifier.SetKeys(set); err != nil {
		l.log.Error("key set of the master not taken", "cause", err)
	}
}

// hold notes a lease before its session is prepared, so that an end that comes meanwhile is not missed. It reports whether the
// lease is new here.
func (l *Link) hold(p *masterapi.Prepare) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	expiry := p.GetExpiry().AsTime()
	if h := l.leases[p.GetLeaseId()]; h != nil {
		if expiry.After(h.expiry) {
			h.expiry = expiry
		}
		return false
	}
	l.leases[p.GetLeaseId()] = &held{id: p.GetLeaseId(), session: p.GetSessionId(), viewer: p.GetViewerId(), expiry: expiry,
		relay: p.GetRelay().GetRelayId(), region: p.GetRelay().GetRegion()}
	return true
}

func (l *Link) prepare(ctx context.Context, p *masterapi.Prepare, fresh bool) {
	report, err := l.prepared(ctx, p)
	if err != nil {
		if fresh {
			l.forget(p.GetLeaseId())
		}
		l.log.Warn("session not prepared", "session_id", p.GetSessionId(), "lease_id", p.GetLeaseId(), "cause", err)
		report = &masterapi.HostReport{Report: &masterapi.HostReport_PrepareFailed{PrepareFailed: &masterapi.PrepareFailed{
			LeaseId: p.GetLeaseId(), Reason: masterapi.Reason_REASON_HOST_PREPARE_FAILED, Message: err.Error(),
		}}}
	}
	l.report(report)
}

// errLeaseOver is the answer when a lease ended while its session was prepared.
var errLeaseOver = errors.New("the lease ended meanwhile")

func (l *Link) prepared(ctx context.Context, p *masterapi.Prepare) (*masterapi.HostReport, error) {
	ready, err := l.prepareHost(ctx, p.GetViewerToken(), p.GetDisplayName())
	if err != nil {
		return nil, err
	}
	report := l.offer(ctx, p, ready)
	if !l.abandon(p) {
		return report, nil
	}
	return nil, errLeaseOver
}

// prepareHost waits for a slot whose session is about to end: the master gives it away as soon as it has said so, and the session
// still says goodbye and stops its plugins.
func (l *Link) prepareHost(ctx context.Context, token, name string) (hostruntime.Prepared, error) {
	deadline := time.NewTimer(slotTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(slotPoll)
	defer tick.Stop()
	for {
		ready, err := l.host.Prepare(token, name)
		if !errors.Is(err, hostruntime.ErrFull) {
			return ready, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return ready, err
		case <-ctx.Done():
			return ready, err
		}
	}
}

// abandon undoes what was prepared for a lease that has ended meanwhile, and reports whether that was so.
func (l *Link) abandon(p *masterapi.Prepare) bool {
	l.mu.Lock()
	h := l.leases[p.GetLeaseId()]
	gone, empty := h == nil || h.over, true
	if gone {
		delete(l.leases, p.GetLeaseId())
	}
	for _, h := range l.leases {
		empty = empty && (h.over || h.session != p.GetSessionId())
	}
	l.mu.Unlock()
	if gone {
		l.legs.release(p.GetLeaseId())
		l.host.EndLease(p.GetSessionId(), p.GetLeaseId(), streamwire.CodeLease, errLeaseOver.Error())
	}
	if gone && empty {
		l.host.End(p.GetSessionId(), streamwire.CodeEnded, errLeaseOver.Error())
	}
	return gone
}

// forget drops a lease that came to nothing.
func (l *Link) forget(id string) {
	l.mu.Lock()
	delete(l.leases, id)
	l.mu.Unlock()
	l.legs.release(id)
}

// offer binds the relay and lists where the viewer may come.
func (l *Link) offer(ctx context.Context, p *masterapi.Prepare, ready hostruntime.Prepared) *masterapi.HostReport {
	answer := &masterapi.Prepared{
		LeaseId: p.GetLeaseId(), SessionId: p.GetSessionId(), CertificateSha256: ready.Certificate.Hashes,
		CertificateExpiry: timestamppb.New(ready.Certificate.Expiry), Signature: ready.Certificate.Signature,
	}
	if !p.GetForceRelay() {
		for _, a := range ready.Direct {
			answer.Candidates = append(answer.Candidates, &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_DIRECT, Address: a.String()})
		}
	}
	if relay := p.GetRelay(); relay != nil {
		if err := l.bindRelay(ctx, p, relay, answer); err != nil {
			l.log.Warn("relay not bound", "relay_id", relay.GetRelayId(), "lease_id", p.GetLeaseId(), "cause", err)
			answer.RelayReject = rejectReason(err)
		}
	}
	return &masterapi.HostReport{Report: &masterapi.HostReport_Prepared{Prepared: answer}}
}

func (l *Link) bindRelay(ctx context.Context, p *masterapi.Prepare, relay *masterapi.RelayEndpoint, answer *masterapi.Prepared) error {
	control, err := resolve(ctx, relay.GetControlAddress())
	if err != nil {
		return fmt.Errorf("find relay %s: %w", relay.GetRelayId(), err)
	}
	media, err := l.legs.bind(ctx, legConfig{
		lease: p.GetLeaseId(), relay: control, publicKey: relay.GetPublicKey(), token: p.GetCircuitToken(),
		identity: l.cfg.Identity, open: l.host.Circuit, send: l.host.SendControl,
	})
	if err != nil {
		return err
	}
	answer.RelayMediaAddress = viewerAddress(relay.GetMediaAddress(), media)
	answer.Candidates = append(answer.Candidates, &masterapi.Candidate{
		Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY, Address: answer.RelayMediaAddress, RelayId: relay.GetRelayId(), Region: relay.GetRegion(),
	})
	return nil
}

// endLease forgets a lease and ends its right at the host, and no other of the same viewer's. The circuit outlives that for a moment: it
// carries the goodbye, or the last pictures until the viewer has decoded one that came another way.
func (l *Link) endLease(e *masterapi.EndLease) {
	l.mu.Lock()
	delete(l.leases, e.GetLeaseId())
	l.mu.Unlock()
	l.legs.releaseLater(e.GetLeaseId())
	l.host.EndLease(e.GetSessionId(), e.GetLeaseId(), endCode(e.GetReason()), sentence(e.GetReason(), ""))
}

// renewal is both a renewal that this host asked for and one that it is told of.
type renewal interface {
	GetViewerToken() string
	GetCircuitToken() string
}

func (l *Link) renewed(leaseID string, r renewal, expiry time.Time) {
	l.mu.Lock()
	h := l.leases[leaseID]
	if h != nil {
		h.expiry, h.renewing = expiry, false
	}
	l.mu.Unlock()
	if h == nil {
		return
	}
	if circuit := r.GetCircuitToken(); circuit != "" {
		l.legs.update(leaseID, circuit)
	}
	if err := l.host.Renew(r.GetViewerToken()); err != nil {
		l.log.Warn("renewed lease not taken", "lease_id", leaseID, "cause", err)
	}
}

// markOver stops renewing a session that is about to end.
func (l *Link) markOver(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.leases {
		if h.session == session {
			h.over = true
		}
	}
}

// forgetSession drops all leases of a session and their circuits.
func (l *Link) forgetSession(id string) {
	l.mu.Lock()
	var ended []string
	for leaseID, h := range l.leases {
		if h.session == id {
			ended = append(ended, leaseID)
			delete(l.leases, leaseID)
		}
	}
	l.mu.Unlock()
	for _, leaseID := range ended {
		l.legs.release(leaseID)
	}
}

// housekeeping renews leases at half of their life and reports load.
func (l *Link) housekeeping(ctx context.Context) {
	ticker := time.NewTicker(loadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.renewDue()
			l.sayChanges()
			l.report(&masterapi.HostReport{Report: &masterapi.HostReport_Load{Load: l.load()}})
		}
	}
}

// renewDue renews what is at half of its life and ends what nobody could renew in time.
func (l *Link) renewDue() {
	now := l.cfg.Now()
	var over []*held
	l.mu.Lock()
	for _, h := range l.leases {
		switch {
		case h.over:
		case now.After(h.expiry.Add(lease.Skew)):
			over = append(over, h)
		case !h.renewing && !now.Before(h.retryAt) && h.expiry.Sub(now) <= lease.Lifetime/2:
			h.renewing = true
			l.task(func(ctx context.Context) { l.renew(ctx, h) })
		}
	}
	l.mu.Unlock()
	for _, h := range over {
		l.endLease(h.end(masterapi.Reason_REASON_LEASE_EXPIRED))
	}
}

func (l *Link) renew(ctx context.Context, h *held) {
	r, err := l.cfg.Client.Leases().Renew(ctx, &masterapi.RenewRequest{LeaseId: h.id})
	if err == nil {
		l.renewed(h.id, r, r.GetExpiry().AsTime())
		return
	}
	l.log.Warn("lease not renewed", "lease_id", h.id, "cause", err)
	switch reason, _ := masterapi.ReasonOf(err); reason {
	case masterapi.Reason_REASON_LEASE_ENDED, masterapi.Reason_REASON_LEASE_UNKNOWN, masterapi.Reason_REASON_SESSION_ENDED:
		l.endLease(h.end(masterapi.Reason_REASON_LEASE_EXPIRED)) // it ended while this host was not linked
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h.renewing, h.retryAt = false, l.cfg.Now().Add(renewRetry)
}

// end is the command that would end the lease.
func (h *held) end(why masterapi.Reason) *masterapi.EndLease {
	return &masterapi.EndLease{LeaseId: h.id, SessionId: h.session, ViewerId: h.viewer, Reason: why}
}
