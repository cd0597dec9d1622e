package state

import (
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

const (
	keyNext     = masterapi.KeyState_KEY_STATE_NEXT
	keySigning  = masterapi.KeyState_KEY_STATE_SIGNING
	keyRetiring = masterapi.KeyState_KEY_STATE_RETIRING
	keyRetired  = masterapi.KeyState_KEY_STATE_RETIRED
	keyRevoked  = masterapi.KeyState_KEY_STATE_REVOKED
)

// AddKey publishes a new next key. The very first key signs at once: nobody waits for it yet. A next key that is there already stays.
type AddKey struct{ ID, Public, Sealed string }

func (*AddKey) kind() kind { return kindAddKey }

func (a *AddKey) fields(c *codec) {
	c.str(&a.ID)
	c.str(&a.Public)
	c.str(&a.Sealed)
}

func (a *AddKey) apply(s *State) Result {
	if _, old := s.key(a.ID); old != nil || (s.NextKey() != nil && s.SigningKey() != nil) {
		return Result{}
	}
	s.publish(a)
	s.keysChanged()
	return Result{Changed: true}
}

// publish appends the key as next one, or as the signing one when there is none.
func (s *State) publish(a *AddKey) {
	cloneAll(&a.ID, &a.Public, &a.Sealed)
	k := &Key{ID: a.ID, Public: a.Public, Sealed: a.Sealed, State: keyNext, Created: s.now}
	if s.SigningKey() == nil {
		k.State, k.SigningSince = keySigning, s.now
	}
	s.keys = append(s.keys, k)
	s.forgetKeys()
}

func (s *State) forgetKeys() {
	for i := 0; len(s.keys) > maxKeys && i < len(s.keys); {
		if s.keys[i].Published() {
			i++
			continue
		}
		s.keys = append(s.keys[:i:i], s.keys[i+1:]...)
	}
}

func (s *State) keysChanged() {
	s.keySet++
	s.emit(Event{Kind: EventKeys})
}

func (s *State) setKey(i int, change func(*Key)) {
	n := *s.keys[i]
	change(&n)
	s.keys[i] = &n
}

// RotateKey lets the next key sign, retires the present one and publishes a new next key. From guards against doing it twice: it is the key that
// signed when the rotation was proposed.
type RotateKey struct {
	From  string
	Next  AddKey
	Actor string
}

func (*RotateKey) kind() kind { return kindRotateKey }

func (r *RotateKey) fields(c *codec) {
	c.str(&r.From)
	r.Next.fields(c)
	c.str(&r.Actor)
}

func (r *RotateKey) apply(s *State) Result {
	i, signing := s.key(r.From)
	if signing == nil || signing.State != keySigning {
		return Result{}
	}
	next := s.NextKey()
	if next == nil {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "there is no next key to rotate to yet")
	}
	s.setKey(i, func(k *Key) { k.State, k.Retired = keyRetiring, s.now })
	s.promote(next)
	s.publish(&r.Next)
	if administrative(r.Actor) {
		s.record(strings.Clone(r.Actor), "key rotate", next.ID, "")
	}
	s.keysChanged()
	return Result{Changed: true}
}

func (s *State) promote(next *Key) {
	i, _ := s.key(next.ID)
	s.setKey(i, func(k *Key) { k.State, k.SigningSince = keySigning, s.now })
}

// RevokeKey takes a key out of the published set and revokes the live leases it signed. When it was the signing key the next one signs at once;
// Next fills the gap.
type RevokeKey struct {
	ID    string
	Next  AddKey
	Actor string
	Note  string
}

func (*RevokeKey) kind() kind { return kindRevokeKey }

func (r *RevokeKey) fields(c *codec) {
	c.str(&r.ID)
	r.Next.fields(c)
	c.str(&r.Actor)
	c.str(&r.Note)
}

func (r *RevokeKey) apply(s *State) Result {
	i, old := s.key(r.ID)
	if old == nil {
		return refuse(masterapi.Reason_REASON_KEY_UNKNOWN, "key %s", r.ID)
	}
	if old.State == keyRevoked {
		return Result{}
	}
	s.setKey(i, func(k *Key) { k.State, k.Ended, k.Sealed = keyRevoked, s.now, "" })
	if next := s.NextKey(); old.State == keySigning && next != nil {
		s.promote(next)
	}
	if s.SigningKey() == nil || s.NextKey() == nil {
		s.publish(&r.Next)
	}
	for _, l := range s.signedBy(old.ID) {
		s.endLease(l, masterapi.LeaseState_LEASE_STATE_REVOKED, masterapi.Reason_REASON_KEY_REVOKED)
	}
	s.record(strings.Clone(r.Actor), "key revoke", old.ID, strings.Clone(r.Note))
	s.keysChanged()
	return Result{Changed: true}
}

// signedBy lists the live leases of a key in the order of their ids, so that every server ends them in the same order.
func (s *State) signedBy(key string) []*Lease {
	var leases []*Lease
	for _, l := range s.leases {
		if l.Live() && l.Key == key {
			leases = append(leases, l)
		}
	}
	sortLeases(leases)
	return leases
}

// RetireKeys ends retiring keys that stopped signing before Before and have no live lease. Their private halves are forgotten.
type RetireKeys struct{ Before Millis }

func (*RetireKeys) kind() kind { return kindRetireKeys }

func (r *RetireKeys) fields(c *codec) { num(c, &r.Before) }

func (r *RetireKeys) apply(s *State) Result {
	changed := false
	for i, k := range s.keys {
		if k.State == keyRetiring && k.Retired <= r.Before && s.byKey[k.ID] == 0 {
			s.setKey(i, func(k *Key) { k.State, k.Ended, k.Sealed = keyRetired, s.now, "" })
			changed = true
		}
	}
	if changed {
		s.keysChanged()
	}
	return Result{Changed: changed}
}
