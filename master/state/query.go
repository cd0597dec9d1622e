package state

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/wavry/fleet/master/masterapi"
)

// Now is the time of the latest command.
func (s *State) Now() Millis { return s.now }

// Lease returns a lease that is live or still remembered, or nil.
func (s *State) Lease(id string) *Lease { return s.leases[id] }

// Session returns a session that is live or still remembered, or nil.
func (s *State) Session(id string) *Session { return s.sessions[id] }

// Relay returns a relay, or nil.
func (s *State) Relay(id string) *Relay { return s.relays[id] }

// Host returns a host, or nil.
func (s *State) Host(id string) *Host { return s.hosts[id] }

// Leases ranges over all leases in no particular order.
func (s *State) Leases() iter.Seq[*Lease] { return maps.Values(s.leases) }

// Sessions ranges over all sessions in no particular order.
func (s *State) Sessions() iter.Seq[*Session] { return maps.Values(s.sessions) }

// Relays ranges over all relays in no particular order.
func (s *State) Relays() iter.Seq[*Relay] { return maps.Values(s.relays) }

// Hosts ranges over all hosts in no particular order.
func (s *State) Hosts() iter.Seq[*Host] { return maps.Values(s.hosts) }

// LiveLeases returns the live leases of a session, newest first.
func (s *State) LiveLeases(session *Session) []*Lease {
	var live []*Lease
	for _, id := range slices.Backward(session.Leases) {
		if l := s.leases[id]; l != nil && l.Live() {
			live = append(live, l)
		}
	}
	return live
}

// SessionsOn returns the ids of a host's live sessions; the slice is the caller's.
func (s *State) SessionsOn(host string) []string { return slices.Clone(s.onHost[host]) }

// SlotsUsed is the number of a host's live sessions.
func (s *State) SlotsUsed(host string) int { return len(s.onHost[host]) }

// CircuitsOn is the number of a relay's live circuits.
func (s *State) CircuitsOn(relay string) int { return s.onRelay[relay] }

// LiveCount is the number of live leases.
func (s *State) LiveCount() int { return s.live }

// Keys returns all keys, oldest first; the slice is the caller's.
func (s *State) Keys() []*Key { return slices.Clone(s.keys) }

// LeasesOfKey is the number of live leases whose latest token the key signed.
func (s *State) LeasesOfKey(id string) int { return s.byKey[id] }

// KeySetVersion grows with each change of the published keys.
func (s *State) KeySetVersion() uint64 { return s.keySet }

// SigningKey returns the key that signs now, or nil.
func (s *State) SigningKey() *Key { return s.keyIn(masterapi.KeyState_KEY_STATE_SIGNING) }

// NextKey returns the key that will sign after the next rotation, or nil.
func (s *State) NextKey() *Key { return s.keyIn(masterapi.KeyState_KEY_STATE_NEXT) }

func (s *State) keyIn(state masterapi.KeyState) *Key {
	for _, k := range s.keys {
		if k.State == state {
			return k
		}
	}
	return nil
}

func (s *State) key(id string) (int, *Key) {
	for i, k := range s.keys {
		if k.ID == id {
			return i, k
		}
	}
	return -1, nil
}

// Bans returns the bans that hold at now, sorted by kind and subject.
func (s *State) Bans(now Millis) []*Ban {
	var bans []*Ban
	for _, b := range s.bans {
		if b.holds(now) {
			bans = append(bans, b)
		}
	}
	slices.SortFunc(bans, compareBans)
	return bans
}

// Banned returns the ban that keeps this login or address out at now, or nil.
func (s *State) Banned(login, address string, now Millis) *Ban {
	if b := s.bans[banKey{masterapi.Ban_KIND_LOGIN, login}]; b != nil && b.holds(now) {
		return b
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil // no address was given
	}
	var hit *Ban
	for key, b := range s.bans {
		if key.kind == masterapi.Ban_KIND_ADDRESS && b.holds(now) && covers(b.Subject, ip) && (hit == nil || b.Subject < hit.Subject) {
			hit = b
		}
	}
	return hit
}

// RevokedHost returns the ban of a host: of its name, or of what linked it last.
func (s *State) RevokedHost(h *Host) *Ban {
	if b := s.Revoked("host/"+h.ID, ""); b != nil {
		return b
	}
	return s.Revoked(h.LinkedBy, h.Serial)
}

// Revoked returns the ban of a service, by its name (role/name) or by the serial number of what it shows, or nil.
func (s *State) Revoked(name, serial string) *Ban {
	for _, key := range []banKey{{masterapi.Ban_KIND_IDENTITY, name}, {masterapi.Ban_KIND_CERTIFICATE, serial}} {
		if b := s.bans[key]; b != nil && b.holds(s.now) {
			return b
		}
	}
	return nil
}

// covers reports whether subject, an address or a prefix, contains ip.
func covers(subject string, ip netip.Addr) bool {
	if prefix, err := netip.ParsePrefix(subject); err == nil {
		return prefix.Contains(ip.Unmap())
	}
	address, err := netip.ParseAddr(subject)
	return err == nil && address.Unmap() == ip.Unmap()
}

// Audit returns the newest entries, newest first; the slice is the caller's.
func (s *State) Audit(limit int) []AuditEntry {
	entries := slices.Clone(s.audit[max(0, len(s.audit)-limit):])
	slices.Reverse(entries)
	return entries
}
