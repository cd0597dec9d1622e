package state

import (
	"cmp"
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

// PutBan adds or replaces a ban of a login or an address. Bans that are over are forgotten on the way.
type PutBan struct{ Ban Ban }

func (*PutBan) kind() kind { return kindPutBan }

func (p *PutBan) fields(c *codec) { p.Ban.fields(c) }

func (p *PutBan) apply(s *State) Result {
	b := p.Ban
	cloneAll(&b.Subject, &b.Reason, &b.Actor)
	b.Since = s.now
	for key, old := range s.bans {
		if !old.holds(s.now) {
			delete(s.bans, key)
		}
	}
	s.bans[banKey{b.Kind, b.Subject}] = &b
	s.record(b.Actor, "ban", b.Subject, b.Reason)
	s.emit(Event{Kind: EventBans})
	return Result{Changed: true}
}

// RemoveBan lifts a ban. Lifting one that is not there succeeds.
type RemoveBan struct {
	Kind           masterapi.Ban_Kind
	Subject, Actor string
}

func (*RemoveBan) kind() kind { return kindRemoveBan }

func (r *RemoveBan) fields(c *codec) {
	num(c, &r.Kind)
	c.str(&r.Subject)
	c.str(&r.Actor)
}

func (r *RemoveBan) apply(s *State) Result {
	key := banKey{r.Kind, r.Subject}
	if s.bans[key] == nil {
		return Result{}
	}
	delete(s.bans, key)
	cloneAll(&r.Subject, &r.Actor)
	s.record(r.Actor, "unban", r.Subject, "")
	s.emit(Event{Kind: EventBans})
	return Result{Changed: true}
}

// Note records an administrative act that changes nothing here, such as removing a server. Servers that do not know it may skip it.
type Note struct{ Actor, Action, Subject, Detail string }

func (*Note) kind() kind { return kindNote }

func (n *Note) fields(c *codec) {
	c.str(&n.Actor)
	c.str(&n.Action)
	c.str(&n.Subject)
	c.str(&n.Detail)
}

func (n *Note) apply(s *State) Result {
	cloneAll(&n.Actor, &n.Action, &n.Subject, &n.Detail)
	s.record(n.Actor, n.Action, n.Subject, n.Detail)
	return Result{Changed: true}
}

func compareBans(a, b *Ban) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Subject, b.Subject))
}
