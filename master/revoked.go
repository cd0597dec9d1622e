package master

import (
	"context"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// revocation returns the refusal for a service whose certificate or name an operator revoked, nil for everybody else. Each server asks its own copy of the
// state, for each call and each link.
func (m *Master) revocation(id identity.Identity) *masterapi.RefusedError {
	var b *state.Ban
	m.read(func(s *state.State) { b = s.Revoked(id.String(), id.Serial) })
	if b == nil {
		return nil
	}
	return masterapi.Refuse(masterapi.Reason_REASON_UNAUTHENTICATED, "%s: revoked by %s: %s", b.Subject, b.Actor, b.Reason)
}

// speaks refuses a caller that is not the machine it says it is, or speaks for one that is revoked.
func (m *Master) speaks(ctx context.Context, role identity.Role, id string) error {
	caller, ok := identity.FromContext(ctx)
	if !ok {
		return masterapi.Refuse(masterapi.Reason_REASON_UNAUTHENTICATED, "no identity")
	}
	if !caller.Speaks(role, id) {
		return masterapi.Refuse(masterapi.Reason_REASON_PERMISSION_DENIED, "%s may not speak for %s %s", caller, role, id)
	}
	machine := identity.Identity{Role: role, Name: id}
	m.streams.speaksFor(ctx, machine)
	if refused := m.revocation(machine); refused != nil {
		return refused
	}
	return nil
}

// streams are the calls that go on for long, so that a revocation ends them too.
type streams struct {
	mu   sync.Mutex // guards the following
	open map[*openStream]struct{}
}

type openStream struct {
	who []identity.Identity // the caller, and the machine that it speaks for
	end context.CancelCauseFunc
}

type streamKey struct{}

// begin returns the context of a stream of id's, and what ends its entry.
func (s *streams) begin(ctx context.Context, id identity.Identity) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	o := &openStream{who: []identity.Identity{id}, end: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*openStream]struct{}{}
	}
	s.open[o] = struct{}{}
	return context.WithValue(ctx, streamKey{}, o), func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, o)
	}
}

// speaksFor notes the machine of a stream; unary calls have none.
func (s *streams) speaksFor(ctx context.Context, machine identity.Identity) {
	if o, ok := ctx.Value(streamKey{}).(*openStream); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		o.who = append(o.who, machine)
	}
}

// cut ends the streams of those who are refused by now.
func (s *streams) cut(refuse func(identity.Identity) *masterapi.RefusedError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.open {
		for _, id := range o.who {
			if refused := refuse(id); refused != nil {
				o.end(refused)
			}
		}
	}
}

// cutRevoked follows revocations until ctx ends: it ends streams, what masters that are revoked have open for Raft, and what revoked hosts run.
func (m *Master) cutRevoked(ctx context.Context, raft interface{ Recheck() }) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.bansChanged:
			l := m.leader.Load()
			var over []state.Command
			if l != nil {
				over = m.farewell(ctx, l)
			}
			m.streams.cut(m.revocation)
			raft.Recheck()
			for _, c := range over {
				l.later(c)
			}
		}
	}
}

// farewell tells revoked hosts over their links, which end with it, to end what they run: no link will tell them later. It returns what ends
// those sessions for everybody else, also those of hosts that are not linked.
func (m *Master) farewell(ctx context.Context, l *leader) (over []state.Command) {
	revoked := map[string][]string{}
	m.read(func(s *state.State) {
		for h := range s.Hosts() {
			if s.RevokedHost(h) != nil {
				revoked[h.ID] = s.SessionsOn(h.ID)
			}
		}
	})
	var links []*hostLink
	for host, sessions := range revoked {
		link := l.hostLink(host)
		for _, id := range sessions {
			end := outOfService(id)
			over = append(over, end)
			if link != nil {
				link.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_End{End: &masterapi.EndHostSession{SessionId: id, Reason: end.Reason, Message: end.Message}}})
			}
		}
		if link != nil {
			link.finish()
			links = append(links, link)
		}
	}
	limit := time.NewTimer(farewellLimit)
	defer limit.Stop()
	for _, link := range links {
		select {
		case <-link.done:
		case <-limit.C: // whoever takes no commands is cut without
			return over
		case <-ctx.Done():
			return over
		}
	}
	return over
}

// bansMayHaveChanged is called on Raft's goroutine: it only nudges cutRevoked.
func (m *Master) bansMayHaveChanged(events []state.Event, restored bool) {
	changed := restored
	for _, e := range events {
		changed = changed || e.Kind == state.EventBans
	}
	if changed {
		select {
		case m.bansChanged <- struct{}{}:
		default: // a look is due already
		}
	}
}

// forRevocation reports whether a ban is one of a service's credentials, which operators put and lift, and nobody else.
func forRevocation(k masterapi.Ban_Kind) bool {
	return k == masterapi.Ban_KIND_CERTIFICATE || k == masterapi.Ban_KIND_IDENTITY
}

// mayBan refuses those who may not put or lift bans of the kind.
func mayBan(ctx context.Context, k masterapi.Ban_Kind) error {
	if caller, _ := identity.FromContext(ctx); forRevocation(k) && caller.Role != identity.RoleOperator {
		return masterapi.Refuse(masterapi.Reason_REASON_PERMISSION_DENIED, "%s may not revoke credentials of services", caller)
	}
	return nil
}

// checkRevocation brings what is revoked into one form.
func checkRevocation(b *state.Ban) error {
	if b.Kind == masterapi.Ban_KIND_IDENTITY {
		if _, err := identity.Parse(b.Subject); err != nil {
			return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "%v", err)
		}
		return nil
	}
	serial, ok := new(big.Int).SetString(strings.ReplaceAll(b.Subject, ":", ""), 16)
	if !ok || serial.Sign() <= 0 || len(b.Subject) > 128 {
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "%q is no serial number in hexadecimal (openssl x509 -noout -serial -in FILE)", short(b.Subject))
	}
	b.Subject = serial.Text(16)
	return nil
}
