package master

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// wish is what somebody wants a lease for: a new session, a further viewer or another path.
type wish struct {
	request string
	// session is set for a further viewer; empty for a new session, which then needs pool.
	session, pool string
	login, viewer string
	name          string // of the person, for those who share the session
	address       string
	viewerKey     string // thumbprint
	region        string
	role          masterapi.ViewerRole
	forceRelay    bool
	directOnly    bool
	replace       bool
	rate          uint64
	size          *masterapi.DisplaySize
	// replaces is the lease whose viewer moves here.
	replaces string
	// relayNeeded refuses when there is no relay, though direct candidates may be offered.
	relayNeeded bool

	noHosts, noRelays []string // that failed already, or are to be avoided
}

func wishOf(r *masterapi.AdmitRequest) (*wish, error) {
	w := &wish{
		request: r.GetRequestId(), pool: r.GetPool(), login: r.GetLogin(), viewer: r.GetViewerId(), address: r.GetViewerAddress(), region: r.GetRegion(),
		role: r.GetRole(), forceRelay: r.GetForceRelay(), directOnly: r.GetDirectOnly(), rate: r.GetRateLimitBps(), size: r.GetSize(), name: r.GetDisplayName(),
		viewerKey: r.GetViewerKey(),
	}
	if w.pool == "" {
		w.pool = "default"
	}
	return w, w.check()
}

func wishOfViewer(r *masterapi.AddViewerRequest) (*wish, error) {
	w := &wish{
		request: r.GetRequestId(), session: r.GetSessionId(), login: r.GetLogin(), viewer: r.GetViewerId(), address: r.GetViewerAddress(),
		region: r.GetRegion(), role: r.GetRole(), forceRelay: r.GetForceRelay(), directOnly: r.GetDirectOnly(), rate: r.GetRateLimitBps(),
		replace: r.GetReplaceController(), name: r.GetDisplayName(), viewerKey: r.GetViewerKey(),
	}
	if err := masterapi.CheckID("session_id", w.session); err != nil {
		return nil, err
	}
	return w, w.check()
}

// check fills what may be left out and refuses what is wrong.
func (w *wish) check() error {
	if w.role == masterapi.ViewerRole_VIEWER_ROLE_UNSPECIFIED {
		w.role = masterapi.ViewerRole_VIEWER_ROLE_CONTROL
	}
	if w.viewer == "" {
		w.viewer = deriveID("viewer", w.request)
	}
	for _, f := range [][2]string{{"request_id", w.request}, {"login", w.login}, {"viewer_id", w.viewer}} {
		if err := masterapi.CheckID(f[0], f[1]); err != nil {
			return err
		}
	}
	for _, f := range [][2]string{{"pool", w.pool}, {"region", w.region}} {
		if f[1] == "" {
			continue
		}
		if err := masterapi.CheckID(f[0], f[1]); err != nil {
			return err
		}
	}
	if len(w.name) > masterapi.MaxIDLen || !utf8.ValidString(w.name) {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "display_name of %d bytes: at most %d of UTF-8", len(w.name), masterapi.MaxIDLen)
	}
	if w.role != masterapi.ViewerRole_VIEWER_ROLE_CONTROL && w.role != masterapi.ViewerRole_VIEWER_ROLE_WATCH {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "role %d", w.role)
	}
	if err := lease.CheckThumbprint(w.viewerKey); err != nil {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "viewer_key: %v", err)
	}
	if w.forceRelay && w.directOnly {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "force_relay and direct_only exclude each other")
	}
	if w.address == "" {
		return nil
	}
	a, err := netip.ParseAddr(w.address)
	if err != nil {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "viewer_address %q is not an IP address", w.address)
	}
	w.address = a.Unmap().WithZone("").String()
	return nil
}

// issued is a lease with its tokens and what preparing needs.
type issued struct {
	lease        *state.Lease
	token        string // the viewer's
	circuitToken string // made by signCircuit; empty when direct only
	host         *state.Host
	relay        *state.Relay
	relayMissing masterapi.Reason
	lifetime     time.Duration
}

// admit issues a lease and lets the host prepare, at another host when one fails.
func (l *leader) admit(ctx context.Context, w *wish) (*masterapi.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	var last error
	for attempt := range admitAttempts {
		i, err := l.issue(ctx, w, attempt)
		if abandoned(err) {
			continue
		}
		if err != nil {
			return nil, firstError(last, err)
		}
		grant, err := l.prepare(ctx, w, i)
		if err == nil {
			return grant, nil
		}
		if ctx.Err() != nil || errors.Is(err, context.Canceled) || l.ctx.Err() != nil {
			// The lease stays: a retry of the request finds it, or it expires.
			return nil, err
		}
		last = err
		l.abandon(ctx, w, i)
	}
	return nil, firstError(last, masterapi.Refuse(masterapi.Reason_REASON_HOST_PREPARE_FAILED, "request %s", w.request))
}

// firstError prefers what went wrong with a host over what its retry ran into.
func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// abandoned says that an earlier attempt of the same request was given up.
func abandoned(err error) bool {
	var a *abandonedError
	return errors.As(err, &a)
}

type abandonedError struct{ lease string }

func (a *abandonedError) Error() string { return "lease " + a.lease + " was abandoned" }

// abandon gives the slot of a failed attempt back and avoids its host or relay from now on.
func (l *leader) abandon(ctx context.Context, w *wish, i *issued) {
	if w.session == "" {
		w.noHosts = append(w.noHosts, i.lease.Host)
	} else if i.relay != nil {
		w.noRelays = append(w.noRelays, i.relay.ID)
	}
	end := &state.EndLease{ID: i.lease.ID, State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: masterapi.Reason_REASON_ADMISSION_ABANDONED}
	if _, err := l.propose(ctx, end); err != nil {
		l.log.Warn("abandoned lease stays until it expires", "lease_id", i.lease.ID, "err", err)
	}
}

// issue allocates through Raft and signs. What loses a race is chosen again.
func (l *leader) issue(ctx context.Context, w *wish, attempt int) (*issued, error) {
	for n := 1; ; n++ {
		i, err := l.tryIssue(ctx, w, attempt)
		if err == nil && i.token == "" {
			err = l.sign(i)
		}
		if !lostRace(err) {
			return i, err
		}
		if n == allocateAttempts {
			return nil, masterapi.Refuse(masterapi.Reason_REASON_NO_FREE_HOST, "lost %d races for a slot", n).After(retrySoon)
		}
		if err := l.waitForChange(ctx, err); err != nil {
			return nil, err
		}
	}
}

// lostRace reports whether choosing again may help.
func lostRace(err error) bool {
	var race *raceError
	return errors.As(err, &race)
}

// raceError is a choice that was right when it was made.
type raceError struct {
	cause error
	// wait says that nothing can be chosen just now, but hosts are still coming back to a new leader.
	wait <-chan struct{}
	// patience bounds the wait; 0: none.
	patience time.Duration
}

func (r *raceError) Error() string { return r.cause.Error() }
func (r *raceError) Unwrap() error { return r.cause }

func (l *leader) waitForChange(ctx context.Context, err error) error {
	var race *raceError
	if !errors.As(err, &race) || race.patience == 0 {
		return nil
	}
	patience := time.NewTimer(race.patience)
	defer patience.Stop()
	select {
	case <-race.wait:
		return nil
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return race.cause
	case <-l.ctx.Done():
		return errDeposed
	}
}

// choice is what tryIssue proposes for a wish.
type choice struct {
	command *state.IssueLease
	missing masterapi.Reason
	record  *state.Lease // that of an earlier attempt; nil: command is to be proposed
	err     error

	// host and relay have promised a slot and a circuit; nil: none.
	host  *liveHost
	relay *liveRelay

	signer *lease.Signer
}

// tryIssue chooses, and commits the choice. The token of what it issued may be missing.
func (l *leader) tryIssue(ctx context.Context, w *wish, attempt int) (*issued, error) {
	changed := l.fleet.wait()
	var c choice
	l.m.read(func(s *state.State) { c = l.choose(s, w, attempt) })
	defer l.fleet.release(c)
	if c.err != nil {
		return nil, l.patient(c.err, changed)
	}
	i := &issued{lease: c.record, relayMissing: c.missing, lifetime: l.m.cfg.LeaseLifetime}
	if i.lease == nil {
		if err := l.commit(ctx, &c, i); err != nil {
			return nil, err
		}
	}
	l.m.read(func(s *state.State) { i.host, i.relay = s.Host(i.lease.Host), s.Relay(i.lease.Relay) })
	if i.host == nil {
		return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", i.lease.Host)
	}
	return i, nil
}

// commit allocates what was chosen and signs it meanwhile. The token leaves this server only after the commit; where signing fails it is
// empty and is made again afterwards, where the error is reported.
func (l *leader) commit(ctx context.Context, c *choice, i *issued) error {
	token := make(chan string, 1)
	now := l.m.cfg.Now()
	go func() { // ends by itself
		t, _ := c.signer.SignViewer(viewerClaims(&c.command.Lease, now))
		token <- t
	}()
	result, err := l.m.node.Propose(ctx, c.command)
	signed := <-token
	if err != nil {
		return fmt.Errorf("commit %T: %w", c.command, err)
	}
	if err := l.raced(result.Err()); err != nil {
		return err
	}
	i.lease = result.Lease
	if result.Changed { // else it is a lease that another attempt has made
		i.token = signed
	}
	return nil
}

// patient turns "no host" into a wait while hosts are still linking to this new leader.
func (l *leader) patient(err error, changed <-chan struct{}) error {
	reason, _ := masterapi.ReasonOf(err)
	if reason == masterapi.Reason_REASON_NO_FREE_HOST && l.fleet.promised() {
		return &raceError{cause: err, patience: promiseStep} // what others were promised may not all be taken
	}
	if l.fleet.settled() || (reason != masterapi.Reason_REASON_NO_FREE_HOST && reason != masterapi.Reason_REASON_NO_RELAY && reason != masterapi.Reason_REASON_NO_SIGNING_KEY) {
		return err
	}
	return &raceError{cause: err, wait: changed, patience: electionPatience}
}

// raced marks refusals of the state that a new choice can avoid.
func (l *leader) raced(err error) error {
	switch reason, _ := masterapi.ReasonOf(err); reason {
	case masterapi.Reason_REASON_NO_FREE_HOST, masterapi.Reason_REASON_NO_RELAY, masterapi.Reason_REASON_NO_SIGNING_KEY:
		return &raceError{cause: err}
	default:
		return err
	}
}

// choose looks at state and fleet and makes the command. It is called under the state's read lock.
func (l *leader) choose(s *state.State, w *wish, attempt int) (c choice) {
	id := leaseIDOf(w.request, w.viewer, attempt)
	if c.record, c.err = earlier(s, id, w); c.record != nil || c.err != nil {
		return c
	}
	now := l.m.cfg.Now()
	if b := s.Banned(w.login, w.address, state.At(now)); b != nil {
		c.err = masterapi.Refuse(masterapi.Reason_REASON_BANNED, "%s: %s", b.Subject, b.Reason)
		return c
	}
	key := s.SigningKey()
	if c.signer, c.err = l.m.keys.signer(key); c.err != nil {
		return c
	}
	host := l.chooseHost(s, w, &c)
	if c.err != nil {
		return c
	}
	rate := w.rate
	if rate == 0 {
		rate = l.m.cfg.RateLimit
	}
	record := state.Lease{
		ID: id, Session: w.session, Viewer: w.viewer, Login: w.login, Host: host.ID, Region: host.Region, Key: key.ID, Address: w.address,
		Rate: rate, Expiry: state.At(now.Add(l.m.cfg.LeaseLifetime)), Role: w.role, ForceRelay: w.forceRelay,
		ViewerKey: w.viewerKey,
	}
	c.command = &state.IssueLease{Lease: record, Replace: w.replace}
	if w.session == "" {
		c.command.Lease.Session, c.command.Pool = sessionIDOf(w.request, attempt), w.pool
	}
	l.chooseRelay(s, w, host, &c)
	return c
}

// earlier finds what an earlier attempt of the same request made.
func earlier(s *state.State, id string, w *wish) (*state.Lease, error) {
	old := s.Lease(id)
	switch {
	case old == nil:
		return nil, nil
	case old.Login != w.login || old.Role != w.role || old.ViewerKey != w.viewerKey || (w.session != "" && w.session != old.Session):
		return nil, masterapi.Refuse(masterapi.Reason_REASON_REQUEST_CONFLICT, "request %s", w.request)
	case old.Live():
		return old, nil
	case old.Reason == masterapi.Reason_REASON_ADMISSION_ABANDONED:
		return nil, &abandonedError{lease: id}
	default:
		return nil, masterapi.Refuse(masterapi.Reason_REASON_LEASE_ENDED, "request %s: %s", w.request, old.Reason.Slug())
	}
}

func (l *leader) chooseHost(s *state.State, w *wish, c *choice) *state.Host {
	if w.session != "" {
		session := s.Session(w.session)
		switch {
		case session == nil:
			c.err = masterapi.Refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, "session %s", w.session)
		case !session.Live():
			c.err = masterapi.Refuse(masterapi.Reason_REASON_SESSION_ENDED, "session %s: %s", w.session, session.Reason.Slug())
		case s.Host(session.Host) == nil:
			c.err = masterapi.Refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", session.Host)
		default:
			return s.Host(session.Host)
		}
		return nil
	}
	id, live, refused := l.fleet.pickHost(s, w.pool, w.region, w.noHosts)
	if refused != nil {
		c.err = refused
		return nil
	}
	c.host = live
	return s.Host(id)
}

// chooseRelay adds a circuit unless none is wanted. Without a relay the lease is direct only, unless one is needed.
func (l *leader) chooseRelay(s *state.State, w *wish, host *state.Host, c *choice) {
	if w.directOnly {
		return
	}
	id, live, ok := l.fleet.pickRelay(s, l.m.cfg.Catalog, host, w.region, l.m.cfg.Relays.Share, w.noRelays)
	if !ok {
		c.missing = masterapi.Reason_REASON_NO_RELAY
		if w.forceRelay || w.relayNeeded {
			c.err = masterapi.Refuse(masterapi.Reason_REASON_NO_RELAY, "host %s in region %q", host.ID, host.Region).After(time.Second)
		}
		return
	}
	c.relay = live
	c.command.Lease.Relay, c.command.Lease.Circuit = id, newCircuit()
}

// signer is that of the key which signs now.
func (l *leader) signer() (*lease.Signer, error) {
	var key *state.Key
	l.m.read(func(s *state.State) { key = s.SigningKey() })
	return l.m.keys.signer(key)
}

// sign makes the viewer's token of a lease that is in the state.
func (l *leader) sign(i *issued) error {
	signer, err := l.signer()
	if err != nil {
		return err
	}
	i.token, err = signer.SignViewer(viewerClaims(i.lease, l.m.cfg.Now()))
	return err
}

// signCircuit makes the circuit's token, if the lease has a circuit. It goes to the host and nowhere else.
func (l *leader) signCircuit(i *issued) error {
	if i.lease.Relay == "" {
		return nil
	}
	signer, err := l.signer()
	if err != nil {
		return err
	}
	i.circuitToken, err = signer.SignCircuit(circuitClaims(i.lease, i.host.Identity, l.m.cfg.Now()))
	return err
}

// prepare lets the host prepare for the lease and makes the grant.
func (l *leader) prepare(ctx context.Context, w *wish, i *issued) (*masterapi.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	link, err := l.linkOf(ctx, i.host.ID)
	if err != nil {
		return nil, err
	}
	if err := l.signCircuit(i); err != nil {
		return nil, err
	}
	prepared, err := link.prepare(ctx, prepareMessage(w, i))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_PREPARE_FAILED, "host %s did not answer within %s", i.host.ID, prepareTimeout)
	}
	if err != nil {
		return nil, err
	}
	return grant(w, i, prepared)
}

// linkOf waits a moment for a host that is coming back.
func (l *leader) linkOf(ctx context.Context, host string) (*hostLink, error) {
	for {
		changed := l.fleet.wait()
		if link := l.hostLink(host); link != nil {
			return link, nil
		}
		if l.fleet.settled() {
			return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_UNREACHABLE, "host %s: %v", host, errNoLink).After(retrySoon)
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return nil, errDeposed
		case <-ctx.Done():
			return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_UNREACHABLE, "host %s: %v", host, errNoLink).After(retrySoon)
		}
	}
}

func prepareMessage(w *wish, i *issued) *masterapi.Prepare {
	p := &masterapi.Prepare{
		LeaseId: i.lease.ID, SessionId: i.lease.Session, ViewerId: i.lease.Viewer, ViewerToken: i.token, Expiry: stamp(i.lease.Expiry),
		Role: i.lease.Role, Size: w.size, ForceRelay: i.lease.ForceRelay, Circuit: i.lease.Circuit, Login: i.lease.Login, ReplacesLease: w.replaces,
		RateLimitBps: i.lease.Rate, DisplayName: w.name, CircuitToken: i.circuitToken,
	}
	if i.relay != nil {
		p.Relay = &masterapi.RelayEndpoint{
			RelayId: i.relay.ID, ControlAddress: i.relay.ControlAddress, PublicKey: []byte(i.relay.PublicKey), Region: i.relay.Region, MediaAddress: i.relay.MediaAddress,
		}
	}
	return p
}

// grant checks what the host answered and makes the grant of it.
func grant(w *wish, i *issued, p *masterapi.Prepared) (*masterapi.Grant, error) {
	failed := func(format string, args ...any) error {
		return masterapi.Refuse(masterapi.Reason_REASON_HOST_PREPARE_FAILED, "host "+i.host.ID+": "+format, args...)
	}
	if len(i.host.Identity) != ed25519.PublicKeySize || !masterapi.VerifyCertificate(ed25519.PublicKey(i.host.Identity), p.GetSignature(), p.GetCertificateSha256(), i.lease.Session, p.GetCertificateExpiry().AsTime()) {
		return nil, failed("its signature over the certificate does not hold")
	}
	candidates, bound := candidatesOf(i, p)
	if len(candidates) == 0 {
		return nil, failed("no candidate: %s", p.GetRelayReject().Slug())
	}
	missing := i.relayMissing
	if i.relay != nil && !bound {
		missing = p.GetRelayReject()
		if missing == masterapi.Reason_REASON_UNSPECIFIED {
			missing = masterapi.Reason_REASON_NO_RELAY
		}
		if w.relayNeeded || w.forceRelay {
			return nil, failed("relay %s: %s", i.relay.ID, missing.Slug())
		}
	}
	return &masterapi.Grant{
		SessionId: i.lease.Session, ViewerId: i.lease.Viewer, LeaseId: i.lease.ID, ViewerToken: i.token, Expiry: stamp(i.lease.Expiry),
		RenewAfter: renewAfter(i.lease.Expiry, i.lifetime), HostId: i.host.ID, HostIdentity: []byte(i.host.Identity), Candidates: candidates,
		CertificateSha256: p.GetCertificateSha256(), CertificateExpiry: p.GetCertificateExpiry(), HostSignature: p.GetSignature(),
		Role: i.lease.Role, Pool: i.host.Pool, Region: i.host.Region, RelayMissing: missing,
	}, nil
}

// candidatesOf orders direct before relay, adds the relay's address when the host bound it, and drops direct ones when the relay is forced.
func candidatesOf(i *issued, p *masterapi.Prepared) (candidates []*masterapi.Candidate, bound bool) {
	for _, c := range p.GetCandidates() {
		if c.GetKind() == masterapi.CandidateKind_CANDIDATE_KIND_DIRECT && !i.lease.ForceRelay && len(candidates) < masterapi.MaxDirectAddresses {
			candidates = append(candidates, c)
		}
	}
	if i.relay == nil {
		return candidates, false
	}
	address := p.GetRelayMediaAddress()
	if k := slices.IndexFunc(p.GetCandidates(), isRelay); address == "" && k >= 0 {
		address = p.GetCandidates()[k].GetAddress()
	}
	if address == "" {
		return candidates, false
	}
	return append(candidates, &masterapi.Candidate{
		Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY, Address: address, RelayId: i.relay.ID, Region: i.relay.Region,
	}), true
}

func isRelay(c *masterapi.Candidate) bool {
	return c.GetKind() == masterapi.CandidateKind_CANDIDATE_KIND_RELAY
}

// renewAfter is half of a lifetime before the expiry.
func renewAfter(expiry state.Millis, lifetime time.Duration) *timestamppb.Timestamp {
	return timestamppb.New(expiry.Time().Add(-lifetime / 2))
}
